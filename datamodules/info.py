"""Descriptions of data: what models, dashboards and commands may use of a data set.

There is one frozen dataclass per kind of data. All values are plain, so a checkpoint can carry them.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """Fields of every description. A new kind of data is a subclass with its own `kind`."""

    kind: ClassVar[str] = "other"

    train_size: int = 0  # number of training examples; for a token corpus, the number of windows
    val_size: int = 0  # number of validation examples
    test_size: int = 0  # number of test examples

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers with the kind first; tuples become lists."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"kind": self.kind, **plain}


@dataclass(frozen=True, kw_only=True)
class ImageInfo(DataInfo):
    """Labelled images."""

    kind = "images"

    input_shape: tuple[int, ...]  # shape of one image, (C, H, W)
    class_names: tuple[str, ...]  # names of the K classes, by class index
    mean: tuple[float, ...]
    """Mean of each channel over the training images, with pixel values scaled to [0, 1]."""
    std: tuple[float, ...]  # standard deviation of the same values
    object_size: int = 0  # longest side of the depicted object in pixels; 0 if unknown
    object_center: str = "box"
    """The point of the object at the image's centre: the centre of its `mass` or of its bounding `box`."""
    views: int = 1
    """Number of changed versions of each image in a batch; 2: a batch is (first, second, targets)."""
    framing: str = "object"
    """How a picture becomes an image: as a light `object` on black, or whole, by `crop` or `resize`."""


@dataclass(frozen=True, kw_only=True)
class TextInfo(DataInfo):
    """A long text, read in windows of tokens.

    Attributes:
        vocab_size: Size V of the vocabulary.
        context_length: Number T of tokens in a window.
        train_context_length: Number of tokens in a training window; 0: T.
        tokenizer: The tokenizer, as its `to_dict` returns it.
        continuous: Whether row i of a batch continues row i of the previous batch, so that a recurrent
            network can carry its state.
        bytes_per_token: Mean number of UTF-8 bytes per validation target; 0 if unknown. A loss in nats per
            token, divided by this number and by ln 2, is in bits per byte.
        test_bytes_per_token: The same for the test targets.
        chat_template: Format of the conversations that the text consists of; empty for plain text.
        answer_length: If each window is a prompt and its answer, the number of tokens in the longest answer,
            its end included; else 0.
        answer_end: The token that ends an answer.
    """

    kind = "text"

    vocab_size: int
    context_length: int
    train_context_length: int = 0
    tokenizer: dict[str, Any] = field(default_factory=dict, hash=False)
    continuous: bool = False
    bytes_per_token: float = 0.0
    test_bytes_per_token: float = 0.0
    chat_template: str = ""
    answer_length: int = 0
    answer_end: int = 0

    @property
    def train_length(self) -> int:
        """Number of tokens in a training window."""
        return self.train_context_length or self.context_length


@dataclass(frozen=True, kw_only=True)
class SequenceLabellingInfo(DataInfo):
    """Short sequences of characters with one target character per position."""

    kind = "sequence_labelling"

    class_names: tuple[str, ...]  # the V characters, by index
    vocab_size: int  # size V of the vocabulary
    context_length: int  # number T of characters in a sequence


@dataclass(frozen=True, kw_only=True)
class LabelledTextInfo(DataInfo):
    """Short texts with one class each."""

    kind = "labelled_text"

    class_names: tuple[str, ...]  # names of the K classes, by class index
    vocab_size: int  # size V of the vocabulary
    context_length: int  # number T of tokens in the longest text
    tokenizer: dict[str, Any] = field(default_factory=dict, hash=False)
    """The tokenizer, as its `to_dict` returns it."""


@dataclass(frozen=True, kw_only=True)
class SequencePairInfo(DataInfo):
    """Pairs of a source sequence and a target sequence.

    Attributes:
        source_vocabulary: The source tokens, by id; the first three are `<pad>`, `<bos>` and `<eos>`.
        target_vocabulary: The target tokens, by id; the first three are the same.
        source_length: Number of tokens in the longest source, special tokens included.
        target_length: Number of tokens in the longest target, special tokens included.
        target_groups: The group of each target token in lenient scoring, for example a phoneme without its
            stress; empty if there is no lenient scoring.
        error_names: Names of the error rates: a target token, a whole target, and the suffix of lenient
            rates, as in `phoneme_error_rate_without_stress`.
        source_words: Whether the tokens of a source are words between spaces; otherwise characters.
        target_words: Whether the tokens of a target are words, written with spaces between them.
    """

    kind = "sequence_pairs"

    source_vocabulary: tuple[str, ...]
    target_vocabulary: tuple[str, ...]
    source_length: int
    target_length: int
    target_groups: tuple[int, ...] = ()
    error_names: tuple[str, ...] = ("token", "sequence", "lenient")
    source_words: bool = False
    target_words: bool = False


@dataclass(frozen=True, kw_only=True)
class VectorPairInfo(DataInfo):
    """Pairs of an input vector and a target vector, such as hidden states and steering vectors."""

    kind = "vector_pairs"

    input_shape: tuple[int, ...]  # shape of one vector, (D,)
    mean: tuple[float, ...]  # mean of each input entry over the training pairs
    std: tuple[float, ...]  # standard deviation of each input entry over the training pairs
    target_scale: float  # root mean square of the entries of the training targets
    steering: dict[str, Any] = field(default_factory=dict, hash=False)
    """For hidden states of a language model: the model, the template, the layers, and the `mean` of the
    training targets that are not zero. Otherwise empty."""


@dataclass(frozen=True, kw_only=True)
class TableInfo(DataInfo):
    """Rows of numbers with real targets."""

    kind = "table"

    input_shape: tuple[int, ...]  # shape of one row, (D,)
    feature_names: tuple[str, ...]  # names of the D features
    mean: tuple[float, ...]  # mean of each feature over the training rows, before standardising
    std: tuple[float, ...]  # standard deviation of each feature, likewise; 1 for a constant feature
    target_names: tuple[str, ...]  # names of the T targets
    target_mean: tuple[float, ...]  # mean of each target over the training rows
    target_std: tuple[float, ...]  # standard deviation of each target; 1 for a constant target


@dataclass(frozen=True, kw_only=True)
class LabelledTableInfo(DataInfo):
    """Rows of numbers with one class each."""

    kind = "labelled_table"

    input_shape: tuple[int, ...]  # shape of one row, (D,)
    feature_names: tuple[str, ...]  # names of the D features
    mean: tuple[float, ...]  # mean of each feature over the training rows, before standardising
    std: tuple[float, ...]  # standard deviation of each feature, likewise; 1 for a constant feature
    class_names: tuple[str, ...]  # names of the K classes, by class index


def info_from_dict(values: Mapping[str, Any]) -> DataInfo:
    """Invert `DataInfo.to_dict`.

    Args:
        values: The dictionary. Checkpoints of older versions have no `kind`; it is then inferred.

    Raises:
        ValueError: The kind or a key is unknown, or a key is missing.
    """
    classes: list[type[DataInfo]] = [DataInfo, *DataInfo.__subclasses__()]
    kinds = {cls.kind: cls for cls in classes}
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    kind = given.pop("kind", None)
    if kind is None:
        cls = _infer_kind(given, classes)
        given = {key: given[key] for key in given.keys() & _keys(cls)}
    elif kind in kinds:
        cls = kinds[kind]
    else:
        raise ValueError(f"unknown kind of data {kind!r}; known are {', '.join(kinds)}")
    if unknown := sorted(given.keys() - _keys(cls)):
        raise ValueError(f"the description of {cls.kind} has unknown keys {', '.join(unknown)}")
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    if missing := sorted(required - given.keys()):
        raise ValueError(f"the description of {cls.kind} lacks the keys {', '.join(missing)}")
    return cls(**given)


def _infer_kind(values: Mapping[str, Any], classes: list[type[DataInfo]]) -> type[DataInfo]:
    """Find the smallest kind that has all the keys that are set.

    Older descriptions had the keys of every kind, most of them empty, but these two were always set.
    """
    used = {key for key, value in values.items() if value} - {"object_center", "error_names"}
    fitting = [cls for cls in classes if used <= _keys(cls)]
    if not fitting:
        raise ValueError(f"no kind of data has the keys {', '.join(sorted(used))}")
    return min(fitting, key=lambda cls: len(_keys(cls)))


def _keys(cls: type[DataInfo]) -> set[str]:
    return {f.name for f in fields(cls)}
