"""Telling what pictures show, with an image classifier."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from datamodules.images.augment import normalize
from datamodules.images.image_files import read_image
from datamodules.info import ImageInfo
from experiments.errors import UserError
from experiments.prediction import Prediction
from experiments.training.build import Restored

SHOWN = 3
"""How many of the most probable classes a line names."""


def predict_images(classifier: Restored, images: Sequence[str]) -> Iterator[Prediction | Exception]:
    """Classify each picture; one that can't be read yields its error.

    Raises:
        UserError: The model is no image classifier.
    """
    check_classifier(classifier)
    return (_predict(classifier, image) for image in images)


def check_classifier(model: Restored) -> None:
    """Refuse what can't be fed pictures.

    Raises:
        UserError: It was not trained on images.
    """
    if not isinstance(model.info, ImageInfo):
        raise UserError(
            f"{model.experiment.model.name} takes neither words nor pictures: "
            f"it was trained on data of the kind {model.info.kind!r}"
        )


def classify(classifier: Restored, image: str | Path) -> dict[str, float]:
    """The probability of each class, the most probable first.

    Args:
        classifier: A restored image classifier.
        image: A picture file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an image, or shows nothing.
    """
    info = classifier.info
    pixels = read_image(image, info).unsqueeze(0)  # (1, C, H, W)
    with torch.inference_mode():
        logits = classifier.module(normalize(pixels, info.mean, info.std))  # (1, K)
    probabilities = dict(zip(info.class_names, logits[0].double().softmax(dim=0).tolist(), strict=True))
    return dict(sorted(probabilities.items(), key=lambda item: -item[1]))


def describe(image: str, probabilities: dict[str, float]) -> str:
    """One picture's line: the class, its probability, and the next ones."""
    (first, most), *others = list(probabilities.items())[:SHOWN]
    rest = ", ".join(f"{name} {value:.1%}" for name, value in others)
    return f"{image}: {first} {most:.1%}" + (f"  (then {rest})" if rest else "")


def _predict(classifier: Restored, image: str) -> Prediction | Exception:
    try:
        probabilities = classify(classifier, image)
    except (OSError, ValueError) as error:
        return error
    return Prediction([describe(image, probabilities)], {"image": image, "probabilities": probabilities})
