"""Schema of the pairs that a steering network learns from; importing it imports no torch."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class SteeringPairsConfig:
    """Pairs of a hidden state h and a vector z, (N, D) each: synthetic ones, or your own from a file.

    Synthetic: h ~ N(0, I) and z = h W + noise · ε, where the entries of W and ε are standard normal.
    """

    path: str | None = field(
        default=None,
        metadata={
            "help": "A safetensors file with h and z, of equal shape N × D; null: synthetic pairs. A stage "
            "may name an earlier one that extracts them."
        },
    )
    input_layer: int | None = field(
        default=None,
        metadata={"help": "Of a file with several layers, which one's h to learn from.", "min": 0},
    )
    target_layer: int | None = field(
        default=None, metadata={"help": "Of a file with several layers, which one's z to learn.", "min": 0}
    )
    width: int = field(default=2048, metadata={"help": "D of synthetic pairs.", "min": 1})
    size: int = field(
        default=10_000,
        metadata={"help": "Synthetic pairs for training and validation together.", "min": 3},
    )
    noise: float = field(
        default=0.01, metadata={"help": "Standard deviation of what W doesn't explain.", "min": 0.0}
    )
    data_seed: int = field(
        default=0,
        metadata={"help": "Draws W, the pairs and the split, whatever the run's own seed.", "min": 0},
    )
    val_size: int = field(default=500, metadata={"help": "Training pairs held out for validation.", "min": 2})
    test_size: int | None = field(
        default=None,
        metadata={
            "help": "Pairs held out for the test; null: as many more as size, or a fifth of a file's.",
            "min": 2,
        },
    )
    batch_size: int = field(default=64, metadata={"help": "Training pairs per step and device.", "min": 1})
    eval_batch_size: int = field(
        default=1000, metadata={"help": "Largest validation or test batch, per device.", "min": 1}
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
