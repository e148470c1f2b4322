"""Tell what pictures show, with an image classifier's checkpoint: class, probability and the next two.

Pictures are PNG, JPEG, BMP, GIF, TIFF or WebP files of one object each, of any size, dark on light or light
on dark; each is framed as the training images were. One that can't be read is named on the standard error,
the others are still classified, and the exit status is then 1.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cli
from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.build import Restored

SHOWN = 3
"""How many of the most probable classes a line names."""
NEEDED = ("input_shape", "class_names", "mean", "std")
"""What must be known of the training data to feed a model pictures and to name what it sees."""


def load_classifier(checkpoint: str | Path) -> "Restored":
    """Restore an image classifier from its checkpoint alone.

    Args:
        checkpoint: The file, or a run directory, whose best checkpoint is taken.

    Raises:
        UserError: It can't be had, or isn't an image classifier.
    """
    path, saved = cli.open_checkpoint(checkpoint)

    from experiments import build

    restored = build.restore(saved, path)
    lacking = [key for key in NEEDED if not getattr(restored.info, key)]
    if lacking or len(restored.info.input_shape) != 3:
        raise UserError(
            f"{path} is no image classifier: the data it was trained on has "
            + (f"no {', '.join(lacking)}" if lacking else f"inputs of shape {restored.info.input_shape}")
        )
    return restored


def classify(classifier: "Restored", image: str | Path) -> dict[str, float]:
    """The probability of each class, the most probable first.

    Args:
        classifier: What :func:`load_classifier` gives.
        image: A picture file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an image, or shows nothing.
    """
    import torch

    from datamodules.augment import normalize
    from datamodules.image_files import read_image

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


@cli.command
def main(arguments: list[str]) -> int:
    """Classify what the command line names; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run directory: its best")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture file")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, with every class's probability"
    )
    options = parser.parse_intermixed_args(arguments)
    classifier = load_classifier(options.checkpoint)
    failed = False
    for image in options.images:
        try:
            probabilities = classify(classifier, image)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        if options.json:
            print(json.dumps({"image": image, "probabilities": probabilities}))
        else:
            print(describe(image, probabilities))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(None))
