"""GPT-2: map the settings and weights of a Hugging Face checkpoint to ours.

Shape letters: W width, V vocabulary.
"""

from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.configs.transformer import FeedForwardKind
from lit_modules.pretrained.source_fields import HARMLESS, Fields, Pretrained, Tensors

HUGGINGFACE_NAMES = {
    "embedding": "transformer.wte",
    "positions.table": "transformer.wpe",
    "head": "lm_head",
    "trunk.final_norm": "transformer.ln_f",
    "attention_norm": "transformer.h.{}.ln_1",
    "attention.query": "transformer.h.{}.attn.c_attn",
    "attention.key": "transformer.h.{}.attn.c_attn",
    "attention.value": "transformer.h.{}.attn.c_attn",
    "attention.output": "transformer.h.{}.attn.c_proj",
    "feed_forward_norm": "transformer.h.{}.ln_2",
    "feed_forward.up": "transformer.h.{}.mlp.c_fc",
    "feed_forward.down": "transformer.h.{}.mlp.c_proj",
}
"""The outputs of `c_attn` are those of query, key and value, in this order."""
_HARMLESS = (
    *(*HARMLESS, "attn_pdrop", "embd_pdrop", "resid_pdrop", "n_ctx", "n_special", "predict_special_tokens"),
    *("reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels"),
    *("summary_type", "summary_use_proj"),
)
_ACTIVATIONS: dict[str, FeedForwardKind] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}


def gpt2_of_config(fields: Fields, tensors: Tensors) -> Pretrained:
    """Convert a GPT-2 checkpoint from Hugging Face.

    Raises:
        ValueError: A setting or tensor is missing, has the wrong type or shape, or isn't supported.
    """
    width = fields.integer("n_embd", 768)
    fields.choice("scale_attn_weights", (True,), True)
    fields.choice("scale_attn_by_inverse_layer_idx", (False,), False)
    config = fields.architecture(
        depth=fields.integer("n_layer", 12),
        width=width,
        num_heads=fields.integer("n_head", 12),
        feed_forward=_ACTIVATIONS[fields.choice("activation_function", _ACTIVATIONS, "gelu_new")],
        feed_forward_width=fields.integer("n_inner", 4 * width),
        norm="layer_norm",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        position="learned",
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        bias=True,
    )
    vocab_size, context_length = fields.integer("vocab_size", 50257), fields.integer("n_positions", 1024)
    fields.finish(_HARMLESS)
    weights = _weights(config, vocab_size, context_length, tensors)
    tensors.finish((".attn.bias", ".attn.masked_bias"))  # mask buffers in older files
    return Pretrained(config=config, vocab_size=vocab_size, context_length=context_length, state_dict=weights)


def _weights(
    config: LanguageModelConfig, vocab_size: int, context_length: int, tensors: Tensors
) -> dict[str, Tensor]:
    """Build our state dict. The file stores matrices as (inputs, outputs), and query, key, value as one."""
    width, hidden = config.width, config.feed_forward_width or 0
    absent = "transformer." if "wte.weight" in tensors else ""  # older files leave it out
    names = {ours: theirs.removeprefix(absent) for ours, theirs in HUGGINGFACE_NAMES.items()}
    embedding = tensors.take(f"{names['embedding']}.weight", vocab_size, width)
    positions = tensors.take(f"{names['positions.table']}.weight", context_length, width)
    weights = {"embedding.weight": embedding, "positions.table.weight": positions}

    def linear(ours: str, theirs: str, inputs: int, outputs: int) -> None:
        weights[f"{ours}.weight"] = tensors.take(f"{theirs}.weight", inputs, outputs).T.contiguous()
        weights[f"{ours}.bias"] = tensors.take(f"{theirs}.bias", outputs)

    def norm(ours: str, theirs: str) -> None:
        for part in ("weight", "bias"):
            weights[f"{ours}.{part}"] = tensors.take(f"{theirs}.{part}", width)

    for layer in range(config.depth):
        ours = f"trunk.layers.{layer}"
        theirs = {name: in_file.format(layer) for name, in_file in names.items()}
        for name in ("attention_norm", "feed_forward_norm"):
            norm(f"{ours}.{name}", theirs[name])
        matrix = tensors.take(f"{theirs['attention.query']}.weight", width, 3 * width).T  # (3 W, W)
        bias = tensors.take(f"{theirs['attention.query']}.bias", 3 * width)
        for number, name in enumerate(("attention.query", "attention.key", "attention.value")):
            part = slice(number * width, (number + 1) * width)
            weights[f"{ours}.{name}.weight"] = matrix[part].contiguous()
            weights[f"{ours}.{name}.bias"] = bias[part].clone()
        for name, inputs, outputs in (
            ("attention.output", width, width),
            ("feed_forward.up", width, hidden),
            ("feed_forward.down", hidden, width),
        ):
            linear(f"{ours}.{name}", theirs[name], inputs, outputs)
    norm("trunk.final_norm", names["trunk.final_norm"])
    weights["head.weight"] = tensors.take_head(f"{names['head']}.weight", embedding, config.tie_embeddings)
    return weights
