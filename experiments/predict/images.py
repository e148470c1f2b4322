"""Classify image files.

Shape letters: C channels, H height, W width, K classes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from datamodules.images.augment import normalize
from datamodules.images.image_files import read_image
from datamodules.info import ImageInfo
from experiments.errors import UserError
from experiments.predict.prediction import Prediction
from experiments.training.build import Restored

SHOWN = 3
"""Number of classes in a line of output."""


def predict_images(classifier: Restored, images: Sequence[str]) -> Iterator[Prediction | Exception]:
    """Classify each image. An image that cannot be read yields its error.

    Raises:
        UserError: The model is not an image classifier.
    """
    check_classifier(classifier)
    return (_predict(classifier, image) for image in images)


def check_classifier(model: Restored) -> None:
    """Refuse a model that does not take images.

    Raises:
        UserError: The model was not trained on images.
    """
    if not isinstance(model.info, ImageInfo):
        raise UserError(
            f"{model.experiment.model.name} takes neither words nor images: "
            f"it was trained on data of the kind {model.info.kind!r}"
        )


def classify(classifier: Restored, image: str | Path) -> dict[str, float]:
    """Return the probability of each class, the most probable first.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, or the image is blank.
    """
    info = classifier.info
    pixels = read_image(image, info).unsqueeze(0)  # (1, C, H, W)
    with torch.inference_mode():
        logits = classifier.module(normalize(pixels, info.mean, info.std))  # (1, K)
    probabilities = dict(zip(info.class_names, logits[0].double().softmax(dim=0).tolist(), strict=True))
    return dict(sorted(probabilities.items(), key=lambda item: -item[1]))


def describe(image: str, probabilities: dict[str, float]) -> str:
    """Format one line: the image, its class and probability, and the next classes."""
    (first, most), *others = list(probabilities.items())[:SHOWN]
    rest = ", ".join(f"{name} {value:.1%}" for name, value in others)
    return f"{image}: {first} {most:.1%}" + (f"  (then {rest})" if rest else "")


def _predict(classifier: Restored, image: str) -> Prediction | Exception:
    try:
        probabilities = classify(classifier, image)
    except (OSError, ValueError) as error:
        return error
    return Prediction([describe(image, probabilities)], {"image": image, "probabilities": probabilities})
