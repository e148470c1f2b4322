"""Settings and tensors of pretrained model files, with a check that all of them are used.

An unused setting or tensor is an error unless it is known to be harmless. Otherwise a model that needs an
unsupported feature would load and silently give wrong outputs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig

_ORIGIN = """
_attn_implementation _attn_implementation_autoset _attn_implementation_internal _commit_hash
_flash_attn_2_enabled _from_model_config _name_or_path architectures attn_implementation auto_map
custom_pipelines dtype is_llama_config tokenizer_class torch_dtype torchscript transformers.js_config
transformers_version unsloth_fixed unsloth_version use_bfloat16 xla_device
"""  # `auto_map` names Python code beside the weights; nothing here reads or runs it
_TRAINING = """
attention_dropout finetuning_task gradient_checkpointing initializer_range loss_type neftune_noise_alpha
pretraining_tp problem_type task_specific_params
"""  # `pretraining_tp` splits matrix products among devices and leaves their results as they are
_CLASSES = "_num_labels id2label label2id num_labels"
_TOKENS = """
bos_token bos_token_id decoder_start_token_id eos_token max_sequence_length model_max_length pad_token
pad_token_id prefix sep_token sep_token_id unk_token unk_token_id
"""
_OUTPUTS = """
chunk_size_feed_forward is_decoder output_attentions output_hidden_states output_logits output_past
output_scores return_dict return_dict_in_generate tf_legacy_loss tie_encoder_decoder use_cache use_return_dict
"""
_GENERATION = """
assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind
bad_words_ids begin_suppress_tokens cache_config cache_implementation compile_config constraints
continuous_batching_config disable_compile diversity_penalty do_sample dola_layers early_stopping
encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff eta_cutoff
exponential_decay_length_penalty force_words_ids forced_bos_token_id forced_eos_token_id generation_config
guidance_scale is_assistant length_penalty low_memory max_cache_len max_length max_matching_ngram_size
max_new_tokens max_time min_length min_new_tokens min_p no_repeat_ngram_size num_assistant_tokens
num_assistant_tokens_schedule num_beam_groups num_beams num_return_sequences penalty_alpha
prefill_chunk_size prompt_lookup_num_tokens remove_invalid_values renormalize_logits repetition_penalty
sequence_bias speculation_type stop_strings suppress_tokens target_lookbehind temperature token_healing
top_h top_k top_p typical_p use_mtp watermarking_config
"""
HARMLESS = tuple(" ".join((_ORIGIN, _TRAINING, _CLASSES, _TOKENS, _OUTPUTS, _GENERATION)).split())
"""Settings of any config.json that don't change the logits.

See `PreTrainedConfig` and `GenerationConfig` of `transformers`; others are from published files.
"""


@dataclass(kw_only=True)
class Pretrained:
    """A pretrained model."""

    config: LanguageModelConfig
    vocab_size: int  # number of rows of the embedding
    context_length: int  # maximum number of tokens
    state_dict: dict[str, Tensor]  # weights by our names, in the precision of the file
    end_ids: tuple[int, ...] = ()  # end-of-text tokens
    tokenizer: dict[str, Any] = field(default_factory=dict)
    """Description of the tokenizer in the file, as plain data; may be empty."""


Schema = TypeVar("Schema")


class Fields:
    """The settings of the file `where`. Each call takes one; `finish` checks that none is left."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self.where = where

    def integer_or_null(self, key: str, default: int | None = None) -> int | None:
        """Take an integer of at least 1, or null; `default` if it is missing.

        Raises:
            ValueError: The value is something else.
        """
        if key in self._values and self._values[key] is None:
            return None
        return self.integer(key, default) if key in self._values or default is not None else None

    def number_or_null(self, key: str) -> float | None:
        """Take a number above 0; None if it is missing or null.

        Raises:
            ValueError: The value is something else.
        """
        return None if self._values.get(key) is None else self.number(key)

    def integer(self, key: str, default: int | None = None) -> int:
        """Take an integer of at least 1; `default` if it is missing or null.

        Raises:
            ValueError: The value is something else, or missing without a default.
        """
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.where}: {key} is {shorten(value)}, expected an integer of at least 1")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Take a number above 0; `default` if it is missing or null.

        Raises:
            ValueError: The value is something else, or missing without a default.
        """
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{self.where}: {key} is {shorten(value)}, expected a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Take true or false; `default` if it is missing or null.

        Raises:
            ValueError: The value is something else.
        """
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}: {key} is {shorten(value)}, expected true or false")
        return value

    def choice(self, key: str, allowed: Iterable[Any], default: Any = None) -> Any:
        """Take a value from a list of supported ones; `default` if it is missing or null.

        Raises:
            ValueError: The value isn't supported, or missing without a default.
        """
        value, choices = self._take(key, default), tuple(allowed)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            only = ", ".join(map(repr, choices))
            raise ValueError(f"{self.where}: {key} = {shorten(value)} isn't implemented, only {only}")
        return value

    def raw(self, key: str) -> Any:
        """Take a value without a check; None if it is missing."""
        return self._values.pop(key, None)

    def nested(self, key: str) -> "Fields":
        """Take a mapping; an empty one if it is missing or null.

        Raises:
            ValueError: The value is something else.
        """
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise ValueError(f"{self.where}: {key} is {shorten(value)}, expected a mapping or null")
        return Fields(value, f"{self.where}: {key}")

    def architecture(self, **values: Any) -> LanguageModelConfig:
        """Build the config; an error names the file.

        Raises:
            ValueError: The values contradict each other.
        """
        return self.build(LanguageModelConfig, **values)

    def build(self, schema: type[Schema], **values: Any) -> Schema:
        """Build any section of the config; an error names the file.

        Raises:
            ValueError: The values contradict each other.
        """
        try:
            return schema(**values)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None

    def finish(self, harmless: Iterable[str]) -> None:
        """Check that no setting is left, apart from `harmless` ones that don't change the logits.

        Raises:
            ValueError: Names the first other setting that isn't null.
        """
        known = set(harmless)
        for key, value in self._values.items():
            if key not in known and value is not None:
                raise ValueError(f"{self.where}: {key} = {shorten(value)} isn't implemented")

    def _take(self, key: str, default: Any) -> Any:
        value = self._values.pop(key, None)
        value = default if value is None else value
        if value is None:
            raise ValueError(f"{self.where}: {key} is missing")
        return value


class Tensors:
    """The tensors of the file `where`. Each call takes one; `finish` checks that none is left."""

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self._tensors = dict(tensors)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def rows(self, name: str) -> int:
        """Return the first dimension of a tensor without taking it.

        Raises:
            ValueError: The tensor is missing.
        """
        if name not in self._tensors:
            raise ValueError(f"{self._where}: tensor {name} is missing")
        return self._tensors[name].shape[0] if self._tensors[name].dim() else 0

    def take(self, name: str, *shape: int) -> Tensor:
        """Take a tensor of the given shape.

        Raises:
            ValueError: The tensor is missing or has another shape.
        """
        tensor = self._tensors.pop(name, None)
        if tensor is None:
            raise ValueError(f"{self._where}: tensor {name} is missing")
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{self._where}: tensor {name} has shape {tuple(tensor.shape)}, expected {shape}"
            )
        return tensor

    def take_head(self, name: str, embedding: Tensor, tied: bool) -> Tensor:
        """Take the output head; return the embedding for a tied one.

        Raises:
            ValueError: The head is missing or has another shape; a tied head differs from the embedding.
        """
        if tied and name not in self:
            return embedding
        head = self.take(name, *embedding.shape)
        if tied and not head.equal(embedding):
            raise ValueError(
                f"{self._where}: tensor {name} differs from the embedding, although they are tied"
            )
        return embedding if tied else head

    def finish(self, harmless: Iterable[str] = ()) -> None:
        """Check that no tensor is left, apart from those with `harmless` name endings, which aren't weights.

        Raises:
            ValueError: Names the first other tensor.
        """
        endings = tuple(harmless)
        left = [name for name in self._tensors if not name.endswith(endings)]
        if left:
            more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            raise ValueError(f"{self._where}: tensor {left[0]}{more} isn't used by any supported layer")


def shorten(value: Any) -> str:
    """Return at most 60 characters of a value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
