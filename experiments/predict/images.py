"""Classify image files.

Shape letters: C channels, H height, W width, K classes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from datamodules.images.augment import normalize
from datamodules.images.image_files import read_image
from experiments.predict.prediction import Prediction, choice, ranked
from experiments.training.build import Restored


def predict_images(classifier: Restored, images: Sequence[str]) -> Iterator[Prediction | Exception]:
    """Classify each image. An image that cannot be read yields its error."""
    for image in images:
        try:
            probabilities = classify(classifier, image)
        except (OSError, ValueError) as error:
            yield error
        else:
            yield choice(image, {"image": image}, probabilities)


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
    return ranked(logits[0], info.class_names)
