"""Schema of the pairs that a steering network learns from; importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class SteeringPairsConfig:
    """Pairs of a hidden state h and a vector z, (N, D) each: synthetic ones, or your own from a file.

    Synthetic: h ~ N(0, I) and z = h W + noise · ε, where the entries of W and ε are standard normal.
    """

    path: str | None = setting(
        None,
        "A safetensors file with h and z, of equal shape N × D; null: synthetic pairs. A stage "
        "may name an earlier one that extracts them.",
    )
    input_layer: int | None = setting(
        None, "Of a file with several layers, which one's h to learn from.", min=0
    )
    target_layer: int | None = setting(None, "Of a file with several layers, which one's z to learn.", min=0)
    width: int = setting(2048, "D of synthetic pairs.", min=1)
    size: int = setting(10_000, "Synthetic pairs for training and validation together.", min=3)
    noise: float = setting(0.01, "Standard deviation of what W doesn't explain.", min=0.0)
    data_seed: int = setting(0, "Draws W, the pairs and the split, whatever the run's own seed.", min=0)
    val_size: int = setting(500, "Training pairs held out for validation.", min=2)
    test_size: int | None = setting(
        None, "Pairs held out for the test; null: as many more as size, or a fifth of a file's.", min=2
    )
    batch_size: int = setting(64, "Training pairs per step and device.", min=1)
    eval_batch_size: int = setting(
        1000, "Largest validation or test batch, per device.", min=1, evaluation="free"
    )

    def __post_init__(self) -> None:
        if (self.input_layer is None) != (self.target_layer is None):
            raise ValueError(
                f"input_layer: {self.input_layer} and target_layer: {self.target_layer}; name both or neither"
            )
        if self.path is None and self.input_layer is not None:
            raise ValueError(f"input_layer: {self.input_layer} is for pairs from a file; set path")
        if self.path is None and self.val_size >= self.size:
            raise ValueError(
                f"val_size: {self.val_size} leaves nothing to train on, allowed is less than size {self.size}"
            )
