"""What a model may know of the data before it sees any: one frozen description, all plain data."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """A data set as a model, a dashboard and the predict command see it.

    Every attribute has a default, since no kind of data has them all: a model names the ones it needs.

    Attributes:
        input_shape: Shape of one input; (C, H, W) for images.
        class_names: Names of the classes, in the order of their indices.
        mean: Mean of each channel over the training images, of pixel values scaled to [0, 1]; of each entry
            where an input is a vector.
        std: Standard deviation of the same values.
        target_scale: Root mean square of the entries of training targets that are vectors; 0 for others.
        steering: Of a language model's hidden states that are to be steered: the model, template and layers
            they are of, and `mean`, the mean of the training vectors that aren't zero; empty for others.
        object_size: Longest side in pixels of the depicted object within an image; 0 where unknown.
        object_center: What lies at an image's middle: the object's centre of `mass` or of its `box`.
        vocab_size: Number of tokens that a text is made of; 0 for other data.
        context_length: Tokens in one window of a text.
        tokenizer: What makes tokens of a text and back, as its `to_dict` gives it.
        continuous: Row i of a batch goes on where row i of the batch before it ended, so that a recurrent
            network can carry its state over; an epoch's first batch starts anew.
        bytes_per_token: UTF-8 bytes that one target of the validation part stands for on average; a loss in
            nats per token divided by it and by ln 2 is in bits per byte.
        test_bytes_per_token: The same of the test part.
        source_vocabulary: What the tokens of a sequence to be read stand for, in the order of their ids; the
            first three are `<pad>`, `<bos>` and `<eos>`.
        target_vocabulary: The same of a sequence to be written.
        source_length: Tokens of the longest sequence to be read, special ones included.
        target_length: Tokens of the longest sequence to be written, special ones included.
        target_groups: For each target token the class that it belongs to in lenient scoring, such as a
            phoneme without its stress; none where there is no such scoring.
        train_size: Number of training examples; for a text, its windows.
        val_size: Number of validation examples.
        test_size: Number of test examples.
        error_names: What a target token and a whole target are called in the names of error rates, and what
            a lenient rate's name ends with: `phoneme_error_rate_without_stress`.
    """

    input_shape: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    target_scale: float = 0.0
    steering: dict[str, Any] = field(default_factory=dict, hash=False)
    object_size: int = 0
    object_center: str = "box"
    vocab_size: int = 0
    context_length: int = 0
    tokenizer: dict[str, Any] = field(default_factory=dict, hash=False)
    continuous: bool = False
    bytes_per_token: float = 0.0
    test_bytes_per_token: float = 0.0
    source_vocabulary: tuple[str, ...] = ()
    target_vocabulary: tuple[str, ...] = ()
    source_length: int = 0
    target_length: int = 0
    target_groups: tuple[int, ...] = ()
    train_size: int = 0
    val_size: int = 0
    test_size: int = 0
    error_names: tuple[str, ...] = ("token", "sequence", "lenient")

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, tuples as lists, so that checkpoints, JSON and YAML carry it alike."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataInfo":
        """The inverse of `to_dict`.

        Raises:
            ValueError: A key is not one of the attributes.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"data description has unknown keys {unknown}, known are {sorted(known)}")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)
