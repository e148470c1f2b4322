"""Schema of the training pairs of a steering network; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from datamodules.setting import setting


@dataclass(kw_only=True)
class SteeringPairsConfig:
    """Pairs of a hidden state h and a steering vector z, (N, D) each, synthetic or from a file.

    Synthetic pairs: h ~ N(0, I) and z = h W + noise · ε. The entries of W and ε are standard normal.
    """

    NO_FOLDS: ClassVar[str] = "its splits are new pairs, or those of its file"

    path: str | None = setting(
        None, "Safetensors file with h and z of equal shape N × D; null: synthetic pairs.", is_path=True
    )
    from_stage: str | None = setting(None, "Earlier stage of the chain that extracts the pairs.")
    input_layer: int | None = setting(None, "Layer of h, for a file with several layers.", min=0)
    target_layer: int | None = setting(None, "Layer of z, for a file with several layers.", min=0)
    width: int = setting(2048, "Width D of synthetic pairs.", min=1, max=1 << 16)
    size: int = setting(
        10_000, "Number of synthetic pairs for training and validation together.", min=3, max=100_000_000
    )
    noise: float = setting(0.01, "Standard deviation of the noise of synthetic pairs.", min=0.0, max=1e6)
    data_seed: int = setting(0, "Seed of W, the pairs and the split, independent of the run's seed.", min=0)
    val_size: int = setting(
        500, "Number of validation pairs, taken from the training pairs.", min=2, max=100_000_000
    )
    test_size: int | None = setting(
        None, "Number of test pairs; null: equal to size, or a fifth of the file.", min=2, max=100_000_000
    )
    train_fraction: float = setting(
        1.0, "Fraction of the training pairs to use, the same random sample each time.", above=0.0, max=1.0
    )
    batch_size: int = setting(64, "Number of training pairs per step and device.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        1000,
        "Number of validation or test pairs per batch and device.",
        min=1,
        evaluation="free",
        max=1 << 20,
    )

    def __post_init__(self) -> None:
        if (self.input_layer is None) != (self.target_layer is None):
            raise ValueError(
                f"input_layer: {self.input_layer} and target_layer: {self.target_layer}; set both or neither"
            )
        if self.path is not None and self.from_stage is not None:
            raise ValueError(f"path: {self.path} and from_stage: {self.from_stage}; set only one of them")
        is_synthetic = self.path is None and self.from_stage is None
        if is_synthetic and self.input_layer is not None:
            raise ValueError(
                f"input_layer: {self.input_layer} is for pairs from a file; set path or from_stage"
            )
        if is_synthetic and self.val_size >= self.size:
            raise ValueError(
                f"val_size: {self.val_size} leaves nothing to train on, allowed is less than size {self.size}"
            )
