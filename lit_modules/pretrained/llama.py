"""Llama: map the settings and weights of Hugging Face checkpoints and GGUF files to ours.

Shape letters: W width, F hidden units, D width of a head, H and H_kv query and key/value heads, V vocabulary.
"""

from collections.abc import Mapping

from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.pretrained.source_fields import HARMLESS, Fields, Pretrained, Tensors

HUGGINGFACE_NAMES = {
    "embedding": "model.embed_tokens",
    "head": "lm_head",
    "trunk.final_norm": "model.norm",
    "attention_norm": "model.layers.{}.input_layernorm",
    "attention.query": "model.layers.{}.self_attn.q_proj",
    "attention.key": "model.layers.{}.self_attn.k_proj",
    "attention.value": "model.layers.{}.self_attn.v_proj",
    "attention.output": "model.layers.{}.self_attn.o_proj",
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


def llama_of_config(fields: Fields, tensors: Tensors) -> Pretrained:
    """Convert a Llama checkpoint from Hugging Face; its rotary layout is `half_split`.

    Raises:
        ValueError: A setting or tensor is missing, has the wrong type or shape, or isn't supported.
    """
    width, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    fields.choice("hidden_act", ("silu", "swish"), "silu")
    fields.choice("attention_bias", (False,), False)
    fields.choice("mlp_bias", (False,), False)
    fields.choice("pretraining_tp", (1,), 1)
    fields.choice("rope_interleaved", (False,), False)
    config = fields.architecture(
        depth=fields.integer("num_hidden_layers"),
        width=width,
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", num_heads),
        head_dim=fields.integer("head_dim", max(1, width // num_heads)),
        feed_forward="swiglu",
        feed_forward_width=fields.integer("intermediate_size"),
        norm="rms_norm",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        position="rotary",
        rotary_base=_rotary_base(fields),
        rotary_layout="half_split",
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        bias=False,
    )
    vocab_size = fields.integer("vocab_size")
    context_length = fields.integer("max_position_embeddings", 2048)
    fields.finish((*HARMLESS, "attention_dropout"))
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
    width, hidden, head_dim = config.width, config.feed_forward_width or 0, config.head_dim or 0
    queries, keys = config.num_heads * head_dim, (config.num_kv_heads or config.num_heads) * head_dim
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
    embedding = tensors.take(f"{names['embedding']}.weight", vocab_size, width)
    weights = {"embedding.weight": embedding}
    for layer in range(config.depth):
        for ours, shape in shapes.items():
            name = f"{names[ours].format(layer)}.weight"
            weights[f"trunk.layers.{layer}.{ours}.weight"] = tensors.take(name, *shape)
    weights["trunk.final_norm.weight"] = tensors.take(f"{names['trunk.final_norm']}.weight", width)
    weights["head.weight"] = tensors.take_head(f"{names['head']}.weight", embedding, config.tie_embeddings)
    return weights


def _rotary_base(fields: Fields) -> float:
    """Return the rotary base: `rope_theta`, which newer files store inside `rope_parameters`."""
    base = fields.raw("rope_theta")
    for key in ("rope_parameters", "rope_scaling"):
        inner = fields.nested(key)
        old_name = inner.choice("type", ("default",), "default")
        inner.choice("rope_type", ("default",), old_name)
        inner.choice("partial_rotary_factor", (1.0, 1), 1.0)
        base = inner.number("rope_theta", base if base is not None else 10_000.0)
        inner.finish(())
    return base
