"""Llama and its kin: map the settings and weights of Hugging Face checkpoints and GGUF files to ours.

    mistral   a sliding window
    qwen2     biases of queries, keys and values
    qwen3     RMS norm of queries and keys
    smollm3   every fourth layer without rotary positions

Shape letters: W width, F hidden units, D width of a head, H and H_kv query and key/value heads, V vocabulary.
"""

import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.configs.transformer import RotaryScaling, RotaryScalingConfig
from lit_modules.pretrained.source_fields import HARMLESS, Fields, Pretrained, Tensors, shorten

Family = Literal["llama", "mistral", "qwen2", "qwen3", "smollm3"]
HUGGINGFACE_NAMES = {
    "embedding": "model.embed_tokens",
    "head": "lm_head",
    "trunk.final_norm": "model.norm",
    "attention_norm": "model.layers.{}.input_layernorm",
    "attention.query": "model.layers.{}.self_attn.q_proj",
    "attention.key": "model.layers.{}.self_attn.k_proj",
    "attention.value": "model.layers.{}.self_attn.v_proj",
    "attention.output": "model.layers.{}.self_attn.o_proj",
    "attention.query_norm": "model.layers.{}.self_attn.q_norm",
    "attention.key_norm": "model.layers.{}.self_attn.k_norm",
    "feed_forward_norm": "model.layers.{}.post_attention_layernorm",
    "feed_forward.gate": "model.layers.{}.mlp.gate_proj",
    "feed_forward.up": "model.layers.{}.mlp.up_proj",
    "feed_forward.down": "model.layers.{}.mlp.down_proj",
}
GGUF_NAMES = {
    "embedding": "token_embd",
    "head": "output",
    "trunk.final_norm": "output_norm",
    "attention_norm": "blk.{}.attn_norm",
    "attention.query": "blk.{}.attn_q",
    "attention.key": "blk.{}.attn_k",
    "attention.value": "blk.{}.attn_v",
    "attention.output": "blk.{}.attn_output",
    "feed_forward_norm": "blk.{}.ffn_norm",
    "feed_forward.gate": "blk.{}.ffn_gate",
    "feed_forward.up": "blk.{}.ffn_up",
    "feed_forward.down": "blk.{}.ffn_down",
}


def llama_of_config(fields: Fields, tensors: Tensors, *, family: Family = "llama") -> Pretrained:
    """Convert a checkpoint of a Llama or its kin from Hugging Face; its rotary layout is `half_split`.

    Raises:
        ValueError: A setting or tensor is missing, has the wrong type or shape, or isn't supported.
    """
    width, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    depth = fields.integer("num_hidden_layers")
    head_dim = 128 if family == "qwen3" else max(1, width // num_heads)
    fields.choice("hidden_act", ("silu", "swish"), "silu")
    for switch in ("rope_interleaved", "use_mrope", "use_sliding_window"):
        fields.choice(switch, (False,), False)
    qkv_bias = fields.flag("attention_bias", False) or family == "qwen2"
    norm_eps = fields.number("rms_norm_eps", 1e-6)
    if family == "qwen3" and norm_eps != 1e-6:  # that of our query and key norms
        raise ValueError(f"{fields.where}: rms_norm_eps = {norm_eps} isn't implemented for qwen3, only 1e-06")
    context_length = fields.integer("max_position_embeddings", 2048)
    rotary_base, rotary_scaling = _rotary(fields, family, context_length)
    config = fields.architecture(
        depth=depth,
        width=width,
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", num_heads),
        head_dim=fields.integer("head_dim", head_dim),
        window=_window(fields, family, depth),
        feed_forward="swiglu",
        feed_forward_width=fields.integer("intermediate_size"),
        norm="rms_norm",
        norm_eps=norm_eps,
        position="rotary",
        rotary_base=rotary_base,
        rotary_layout="half_split",
        rotary_scaling=rotary_scaling,
        unrotated_every=_unrotated_every(fields, depth) if family == "smollm3" else None,
        tie_embeddings=fields.flag("tie_word_embeddings", family == "smollm3"),
        bias=qkv_bias and family != "qwen2",
        qkv_bias=qkv_bias,
        feed_forward_bias=fields.flag("mlp_bias", False),
        norm_bias=False,
        qk_norm=family == "qwen3",
    )
    vocab_size = fields.integer("vocab_size")
    fields.finish((*HARMLESS, "max_window_layers"))  # a part of `use_sliding_window`
    weights = _weights(config, vocab_size, tensors, HUGGINGFACE_NAMES)
    tensors.finish((".rotary_emb.inv_freq",))
    return Pretrained(config=config, vocab_size=vocab_size, context_length=context_length, state_dict=weights)


def llama_of_gguf(fields: Fields, tensors: Tensors) -> Pretrained:
    """Convert a Llama model from a GGUF file; its rotary layout is `adjacent_pairs`.

    Args:
        fields: Entries `llama.*` of the file, without that prefix.
        tensors: Dequantised weights by their names in the file.

    Raises:
        ValueError: See `llama_of_config`.
    """
    width, num_heads = fields.integer("embedding_length"), fields.integer("attention.head_count")
    head_dim = fields.integer("attention.key_length", max(1, width // num_heads))
    fields.choice("attention.value_length", (head_dim,), head_dim)
    fields.choice("rope.dimension_count", (head_dim,), head_dim)
    fields.choice("rope.scaling.type", ("none",), "none")
    config = fields.architecture(
        depth=fields.integer("block_count"),
        width=width,
        num_heads=num_heads,
        num_kv_heads=fields.integer("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        feed_forward="swiglu",
        feed_forward_width=fields.integer("feed_forward_length"),
        norm="rms_norm",
        norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        position="rotary",
        rotary_base=fields.number("rope.freq_base", 10_000.0),
        rotary_layout="adjacent_pairs",
        tie_embeddings=f"{GGUF_NAMES['head']}.weight" not in tensors,
        bias=False,
    )
    vocab_size = tensors.rows(f"{GGUF_NAMES['embedding']}.weight")
    fields.choice("vocab_size", (vocab_size,), vocab_size)
    context_length = fields.integer("context_length")
    fields.finish(())
    weights = _weights(config, vocab_size, tensors, GGUF_NAMES)
    tensors.finish()
    return Pretrained(config=config, vocab_size=vocab_size, context_length=context_length, state_dict=weights)


def _weights(
    config: LanguageModelConfig, vocab_size: int, tensors: Tensors, names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Build our state dict. `names` maps our names to the file's, with {} for the number of a layer."""
    width, hidden, head_dim = config.width, config.hidden_width, config.head_width
    queries, keys = config.num_heads * head_dim, config.kv_heads * head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "attention_norm": (width,),
        "attention.query": (queries, width),
        "attention.key": (keys, width),
        "attention.value": (keys, width),
        "attention.output": (width, queries),
        "feed_forward_norm": (width,),
        "feed_forward.gate": (hidden, width),
        "feed_forward.up": (hidden, width),
        "feed_forward.down": (width, hidden),
    }
    if config.qk_norm:
        shapes |= {"attention.query_norm": (head_dim,), "attention.key_norm": (head_dim,)}
    biased = {
        *(("attention.query", "attention.key", "attention.value") if config.has_qkv_bias else ()),
        *(("attention.output",) if config.bias else ()),
        *(name for name in shapes if name.startswith("feed_forward.") and config.has_feed_forward_bias),
    }
    embedding = tensors.take(f"{names['embedding']}.weight", vocab_size, width)
    weights = {"embedding.weight": embedding}
    for layer in range(config.depth):
        for name, shape in shapes.items():
            ours, theirs = f"trunk.layers.{layer}.{name}", names[name].format(layer)
            weights[f"{ours}.weight"] = tensors.take(f"{theirs}.weight", *shape)
            if name in biased:
                weights[f"{ours}.bias"] = tensors.take(f"{theirs}.bias", shape[0])
    weights["trunk.final_norm.weight"] = tensors.take(f"{names['trunk.final_norm']}.weight", width)
    weights["head.weight"] = tensors.take_head(f"{names['head']}.weight", embedding, config.tie_embeddings)
    return weights


def _window(fields: Fields, family: Family, depth: int) -> int | None:
    """Return the sliding window of all layers; Llama has none, and Qwen and SmolLM3 don't use theirs."""
    window = None
    if family == "mistral":
        window = fields.integer_or_null("sliding_window", 4096)
    elif family != "llama":
        fields.raw("sliding_window")  # `use_sliding_window` is false
    kind = "sliding_attention" if window else "full_attention"
    kinds = fields.raw("layer_types")
    if kinds not in (None, [kind] * depth):
        raise ValueError(f"{fields.where}: layer_types = {shorten(kinds)} isn't implemented, only {kind!r}")
    return window


def _unrotated_every(fields: Fields, depth: int) -> int | None:
    """Return n if every n-th layer has no rotary positions; such a layer is a 0 in `no_rope_layers`."""
    interval = fields.integer("no_rope_layer_interval", 4)
    rotated = fields.raw("no_rope_layers") or [int(i % interval != 0) for i in range(1, depth + 1)]
    used = rotated[:depth] if isinstance(rotated, list) else []
    first = used.index(0) + 1 if 0 in used else None
    if used != [int(first is None or i % first != 0) for i in range(1, depth + 1)]:
        raise ValueError(
            f"{fields.where}: no_rope_layers = {shorten(rotated)} isn't implemented, only every n-th layer"
        )
    return first


def _rotary(fields: Fields, family: Family, context_length: int) -> tuple[float, RotaryScalingConfig]:
    """Return base and scaling of the rotations; newer files have both in `rope_parameters`."""
    base = fields.raw("rope_theta")
    base = (2_000_000.0 if family == "smollm3" else 10_000.0) if base is None else base
    fields.choice("partial_rotary_factor", (1.0, 1), 1.0)
    scaling = RotaryScalingConfig()
    for key in ("rope_parameters", "rope_scaling"):
        inner = fields.nested(key)
        kinds = ("default", "linear", "llama3", "yarn")
        kind = inner.choice("rope_type", kinds, inner.choice("type", kinds, "default"))  # `type` is older
        inner.choice("partial_rotary_factor", (1.0, 1), 1.0)
        base = inner.number("rope_theta", base)
        if kind != "default":
            scaling = _scaling(inner, kind, context_length)
        inner.finish(("finetuned", "original_max_position_embeddings"))
    return base, scaling


def _scaling(inner: Fields, kind: RotaryScaling, context_length: int) -> RotaryScalingConfig:
    """Read the scaling of the rotations."""
    factor = inner.number("factor")
    if kind == "linear":
        return inner.build(RotaryScalingConfig, kind=kind, factor=factor)
    original = inner.integer("original_max_position_embeddings", context_length)
    if kind == "llama3":
        low, high = inner.number("low_freq_factor"), inner.number("high_freq_factor")
        lengths = {"original_length": original, "low_turns": low, "high_turns": high}
        return inner.build(RotaryScalingConfig, kind=kind, factor=factor, **lengths)
    return inner.build(
        RotaryScalingConfig,
        kind=kind,
        factor=factor,
        original_length=original,
        low_turns=inner.number("beta_slow", 1.0),
        high_turns=inner.number("beta_fast", 32.0),
        attention_factor=inner.number("attention_factor", _attention_factor(inner, factor)),
        whole_pairs=inner.flag("truncate", True),
    )


def _attention_factor(inner: Fields, factor: float) -> float:
    """Return the default factor of yarn, which DeepSeek's `mscale` and `mscale_all_dim` may change."""

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    above, below = inner.number_or_null("mscale"), inner.number_or_null("mscale_all_dim")
    return scale(above) / scale(below) if above and below else scale(1.0)
