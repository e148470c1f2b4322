"""What the readers of other people's model files share: settings and tensors that must be accounted for.

A setting that is neither used nor known to change nothing is refused by its name, and so is a tensor that no
weight of ours is made of: a model that is loaded half understood gives wrong answers without a word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig

HARMLESS = (
    *("_name_or_path", "architectures", "bos_token_id", "dtype", "initializer_range", "is_llama_config"),
    *("pad_token_id", "task_specific_params", "torch_dtype", "transformers.js_config"),
    *("transformers_version", "use_cache"),
)
"""Settings of a config.json of any kind on which no logit depends."""


@dataclass(kw_only=True)
class Pretrained:
    """A model from a file.

    Attributes:
        config: The architecture.
        vocab_size: Rows of its embedding.
        context_length: The longest text that it was made for.
        state_dict: The weights by our names, in the file's precision.
        end_ids: Tokens with which the model says that it is done.
        tokenizer: What the file itself says of its vocabulary, as plain data; empty where it says nothing.
    """

    config: LanguageModelConfig
    vocab_size: int
    context_length: int
    state_dict: dict[str, Tensor]
    end_ids: tuple[int, ...] = ()
    tokenizer: dict[str, Any] = field(default_factory=dict)


class Fields:
    """The settings of a file, taken one by one.

    Args:
        values: By name.
        where: The file, for errors.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self._where = where

    def integer(self, key: str, default: int | None = None) -> int:
        """Takes a whole number of at least 1; `default` if it is missing or null.

        Raises:
            ValueError: it is something else, or missing without a default.
        """
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self._where}: {key} is {value!r}, expected a whole number of at least 1")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Takes a number above 0; `default` if it is missing or null.

        Raises:
            ValueError: it is something else, or missing without a default.
        """
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{self._where}: {key} is {value!r}, expected a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Takes true or false; `default` if it is missing or null.

        Raises:
            ValueError: it is something else.
        """
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self._where}: {key} is {value!r}, expected true or false")
        return value

    def choice(self, key: str, allowed: Iterable[Any], default: Any = None) -> Any:
        """Takes a value of which only some are implemented; `default` if it is missing or null.

        Raises:
            ValueError: it is another one, or missing without a default.
        """
        value, choices = self._take(key, default), tuple(allowed)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise ValueError(
                f"{self._where}: {key} = {value!r} isn't implemented, only {', '.join(map(repr, choices))}"
            )
        return value

    def raw(self, key: str) -> Any:
        """Takes a value as it is; None if it is missing."""
        return self._values.pop(key, None)

    def nested(self, key: str) -> "Fields":
        """Takes a mapping; an empty one if it is missing or null.

        Raises:
            ValueError: it is something else.
        """
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise ValueError(f"{self._where}: {key} is {_shorten(value)}, expected a mapping or null")
        return Fields(value, f"{self._where}: {key}")

    def architecture(self, **values: Any) -> LanguageModelConfig:
        """The config that the values taken so far make.

        Raises:
            ValueError: they don't fit together.
        """
        try:
            return LanguageModelConfig(**values)
        except ValueError as error:
            raise ValueError(f"{self._where}: {error}") from None

    def finish(self, harmless: Iterable[str]) -> None:
        """Refuses whatever is left.

        Args:
            harmless: Names of settings that change no logits.

        Raises:
            ValueError: names the first other one that isn't null.
        """
        known = set(harmless)
        for key, value in self._values.items():
            if key not in known and value is not None:
                raise ValueError(f"{self._where}: {key} = {_shorten(value)} isn't implemented")

    def _take(self, key: str, default: Any) -> Any:
        value = self._values.pop(key, None)
        value = default if value is None else value
        if value is None:
            raise ValueError(f"{self._where}: {key} is missing")
        return value


class Tensors:
    """The tensors of a file, taken one by one.

    Args:
        tensors: By name.
        where: The file, for errors.
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self._tensors = dict(tensors)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def rows(self, name: str) -> int:
        """The first dimension of a tensor that stays.

        Raises:
            ValueError: it is missing.
        """
        if name not in self._tensors:
            raise ValueError(f"{self._where}: tensor {name} is missing")
        return self._tensors[name].shape[0] if self._tensors[name].dim() else 0

    def take(self, name: str, *shape: int) -> Tensor:
        """Takes a tensor that must have this shape.

        Raises:
            ValueError: it is missing, or of another shape.
        """
        tensor = self._tensors.pop(name, None)
        if tensor is None:
            raise ValueError(f"{self._where}: tensor {name} is missing")
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{self._where}: tensor {name} has shape {tuple(tensor.shape)}, the settings make it {shape}"
            )
        return tensor

    def take_head(self, name: str, embedding: Tensor, tied: bool) -> Tensor:
        """Takes the output layer, of the embedding's shape; a tied one may be missing, and is the embedding.

        Raises:
            ValueError: it is missing or of another shape; it is said to be tied, and differs.
        """
        if tied and name not in self:
            return embedding
        head = self.take(name, *embedding.shape)
        if tied and not head.equal(embedding):
            raise ValueError(f"{self._where}: tensor {name} differs from the embedding that it is tied to")
        return embedding if tied else head

    def finish(self, harmless: Iterable[str] = ()) -> None:
        """Refuses whatever is left.

        Args:
            harmless: Endings of names of tensors that hold no weights.

        Raises:
            ValueError: names the first other one.
        """
        endings = tuple(harmless)
        left = [name for name in self._tensors if not name.endswith(endings)]
        if left:
            more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            raise ValueError(f"{self._where}: tensor {left[0]}{more} belongs to nothing that is implemented")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
