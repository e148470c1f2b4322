"""The schema fields of any transformer: its layers, how tokens know their place, and how weights begin."""

from dataclasses import dataclass
from typing import Any, Literal

from datamodules.setting import setting

FeedForwardKind = Literal["gelu_tanh", "gelu", "relu", "squared_relu", "swiglu"]


def _dropout(of: str) -> Any:
    text = f"Probability that {of} is zeroed in training."
    return setting(0.0, text, min=0.0, below=1.0)


@dataclass(kw_only=True)
class TransformerConfig:
    """A stack of transformer layers. The defaults are a small GPT-2's; a model's own config extends it."""

    depth: int = setting(4, "Layers; time and memory grow with it.", min=1)
    width: int = setting(128, "Of the hidden states; time grows with its square.", min=1)
    num_heads: int = setting(4, "Query heads; they divide the width.", min=1)
    num_kv_heads: int | None = setting(
        None, "Key/value heads; they divide the query heads; null: as many. Fewer shrink the KV cache.", min=1
    )
    head_dim: int | None = setting(None, "Width of a head; null: width / num_heads.", min=1)
    feed_forward: FeedForwardKind = setting(
        "gelu_tanh", "Activation of the two-layer MLP, or the three matrices of SwiGLU."
    )
    feed_forward_width: int | None = setting(
        None, "Hidden units; null: 4 × width, for swiglu 8/3 × width rounded up to a multiple of 32.", min=1
    )
    norm: Literal["layer_norm", "rms_norm"] = setting(
        "layer_norm", "What keeps the scale of the hidden states."
    )
    norm_eps: float = setting(1e-5, "Added to the variance inside the norms.", above=0.0)
    norm_first: bool = setting(True, "Norm before each branch (pre-norm) or after the sum (post-norm).")
    position: Literal["learned", "rotary", "sinusoidal", "none"] = setting(
        "learned", "How tokens know their place; learned ones end with the context length."
    )
    rotary_base: float = setting(10_000.0, "Of rotary positions; larger reaches further.", above=0.0)
    rotary_layout: Literal["half_split", "adjacent_pairs"] = setting(
        "half_split", "Which channels turn together: Hugging Face's files or GGUF's."
    )
    bias: bool = setting(True, "Biases in linear layers and layer norms.")
    qk_norm: bool = setting(False, "RMS-normalise queries and keys: stable at high learning rates.")
    dropout: float = _dropout("an entry of the embeddings or of a branch's result")
    attention_dropout: float = _dropout("an attention weight")
    embedding_std: float = setting(0.02, "Standard deviation of fresh embeddings.", above=0.0)
    linear_std: float | None = setting(
        0.02, "Standard deviation of fresh matrices; null: ½ / √inputs.", above=0.0
    )
    output_init: Literal["scaled", "zero"] = setting(
        "scaled",
        "Fresh last matrix of each branch: divided by √(2 × depth), or zero, so that a new "
        "network is its embedding and head alone.",
    )
    implementation: Literal["fused", "by_hand", "tiled"] = setting(
        "fused", "PyTorch's kernels, or the formulas to read (tiled: with flash attention)."
    )

    def __post_init__(self) -> None:
        kv_heads = self.num_heads if self.num_kv_heads is None else self.num_kv_heads
        if self.num_heads % kv_heads:
            raise ValueError(f"num_kv_heads: {kv_heads} doesn't divide num_heads {self.num_heads}")
        if self.head_dim is None and self.width % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} doesn't divide width {self.width}: set head_dim")
        head_dim = self.width // self.num_heads if self.head_dim is None else self.head_dim
        if self.position == "rotary" and head_dim % 2:
            raise ValueError(
                f"position: rotary turns pairs of channels, and heads of width {head_dim} are odd"
            )
        if self.attention_dropout and self.implementation == "tiled":
            raise ValueError(
                "attention_dropout: tiled attention has none; use implementation fused or by_hand"
            )
