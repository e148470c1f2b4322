"""Settings of any transformer, from the YAML file to the layers; importing them imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from datamodules.setting import setting

FeedForwardActivation = Literal["gelu_tanh", "gelu", "relu", "squared_relu"]
FeedForwardKind = Literal[FeedForwardActivation, "swiglu"]
NormKind = Literal["layer_norm", "rms_norm"]
Position = Literal["learned", "rotary", "sinusoidal", "none"]
RotaryScaling = Literal["none", "linear", "llama3", "yarn"]
RotaryLayout = Literal["half_split", "adjacent_pairs"]
OutputInit = Literal["scaled", "zero"]
AttentionImplementation = Literal["fused", "by_hand", "tiled", "triton"]
Pooling = Literal["mean", "cls", "attention"]

TRITON_HEAD_WIDTH = 128
"""Largest width of a head for `implementation: triton`."""

_MULTIPLE = 32  # of the default SwiGLU width, because kernels are fastest with whole vectors


def _dropout(of: str) -> Any:
    return setting(0.0, f"Probability of dropping {of} in training.", min=0.0, below=1.0)


@dataclass(kw_only=True)
class RotaryScalingConfig:
    """Slower rotations for texts longer than those in pre-training; see `layers.rotary_scaling`."""

    kind: RotaryScaling = setting("none", "Method of slowing the rotations down.")
    factor: float = setting(1.0, "How many times longer texts may be.", min=1.0, max=1e6)
    original_length: int = setting(8192, "Longest text in pre-training, in tokens.", min=1, max=1 << 24)
    low_turns: float = setting(
        1.0,
        "Channel pairs with fewer turns within original_length rotate factor times slower.",
        above=0.0,
        max=1e6,
    )
    high_turns: float = setting(
        32.0,
        "Channel pairs with more turns don't change; usually 4 for llama3, 32 for yarn.",
        above=0.0,
        max=1e6,
    )
    attention_factor: float | None = setting(
        None, "Factor of cosines and sines for yarn; null: 1 + ln(factor) / 10.", above=0.0, max=1e3
    )
    whole_pairs: bool = setting(True, "Round the bounds of yarn to whole channel pairs.")

    def __post_init__(self) -> None:
        if self.low_turns >= self.high_turns:
            raise ValueError(f"low_turns: {self.low_turns} must be less than high_turns, {self.high_turns}")


@dataclass(kw_only=True)
class TransformerConfig:
    """A stack of transformer layers. The defaults are a small GPT-2; the config of each model extends it.

    Llama is `norm="rms_norm", feed_forward="swiglu", bias=False, position="rotary"` and a smaller
    `num_kv_heads`.
    """

    depth: int = setting(4, "Number of layers; time and memory grow with it.", min=1, max=1000)
    width: int = setting(128, "Width of the hidden states; time grows with its square.", min=1, max=1 << 17)
    num_heads: int = setting(
        4, "Number of query heads; must divide the width unless head_dim is set.", min=1, max=1 << 14
    )
    num_kv_heads: int | None = setting(
        None,
        "Number of key/value heads; must divide num_heads; null: num_heads. Fewer shrink the KV cache.",
        min=1,
        max=1 << 14,
    )
    head_dim: int | None = setting(None, "Width of a head; null: width / num_heads.", min=1, max=1 << 14)
    window: int | None = setting(
        None,
        "Self-attention sees only tokens less than this many positions away; null: no limit.",
        min=1,
        max=1 << 24,
    )
    feed_forward: FeedForwardKind = setting(
        "gelu_tanh", "Activation of the two-layer feed-forward network, or swiglu with three matrices."
    )
    feed_forward_width: int | None = setting(
        None,
        "Number of hidden units of the feed-forward network; null: 4 × width, for swiglu 8/3 × width "
        "rounded up to a multiple of 32.",
        min=1,
        max=1 << 20,
    )
    norm: NormKind = setting("layer_norm", "Kind of norm.")
    norm_eps: float = setting(1e-5, "Constant added to the variance inside the norms.", above=0.0, max=1.0)
    norm_bias: bool | None = setting(
        None, "Biases in the norms; null: as bias for layer_norm, false for rms_norm."
    )
    norm_partial: float = setting(
        1.0,
        "Share of the features from which rms_norm computes the norm; all features are scaled.",
        above=0.0,
        max=1.0,
    )
    norm_first: bool = setting(True, "Norm before each branch (pre-norm) or after the sum (post-norm).")
    position: Position = setting(
        "learned", "Kind of position encoding; learned positions end at the context length."
    )
    rotary_base: float = setting(
        10_000.0, "Base of the rotary wavelengths; larger suits longer texts.", above=0.0, max=1e12
    )
    rotary_layout: RotaryLayout = setting(
        "half_split",
        "Which channels rotate as a pair: half_split as in Hugging Face, adjacent_pairs as in GGUF.",
    )
    rotary_scaling: RotaryScalingConfig = setting(
        help="Scaling of the rotations.", default_factory=RotaryScalingConfig
    )
    unrotated_every: int | None = setting(
        None, "Every n-th layer has no rotary positions; null: all layers have them.", min=1, max=1000
    )
    bias: bool = setting(True, "Biases in linear layers and layer norms.")
    qkv_bias: bool | None = setting(None, "Biases of queries, keys and values; null: as bias.")
    feed_forward_bias: bool | None = setting(None, "Biases of the feed-forward network; null: as bias.")
    qk_norm: bool = setting(False, "RMS norm of queries and keys; stable at high learning rates.")
    dropout: float = _dropout("an entry of the embeddings or of a branch's output")
    hidden_dropout: float = _dropout("a hidden unit of the feed-forward network")
    attention_dropout: float = _dropout("an attention weight")
    embedding_std: float = setting(
        0.02, "Standard deviation of the initial embeddings.", above=0.0, max=100.0
    )
    linear_std: float | None = setting(
        0.02, "Standard deviation of the initial matrices; null: ½ / √inputs.", above=0.0, max=100.0
    )
    output_init: OutputInit = setting(
        "scaled",
        "Initial last matrix of each branch: scaled by 1 / √(2 × depth), or zero, which makes each branch "
        "start as a no-op.",
    )
    implementation: AttentionImplementation = setting(
        "fused",
        "PyTorch's layers, or the same layers written by hand (tiled: with flash attention); same results. "
        "triton: PyTorch's layers around flash attention in Triton, on CUDA GPUs only.",
    )

    def __post_init__(self) -> None:
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_kv_heads: {self.kv_heads} doesn't divide num_heads {self.num_heads}")
        if self.head_dim is None and self.width % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} doesn't divide width {self.width}: set head_dim")
        if self.position == "rotary" and self.head_width % 2:
            raise ValueError(
                f"position: rotary rotates pairs of channels, but head_dim {self.head_width} is odd; "
                "choose an even head_dim"
            )
        if self.attention_dropout and self.implementation in ("tiled", "triton"):
            raise ValueError(
                f"attention_dropout: {self.attention_dropout} isn't possible with implementation "
                f"{self.implementation}; use fused or by_hand"
            )
        if self.implementation == "triton" and self.head_width > TRITON_HEAD_WIDTH:
            raise ValueError(
                f"implementation: triton has heads up to {TRITON_HEAD_WIDTH} wide, but head_dim is "
                f"{self.head_width}; use fused, by_hand or tiled"
            )
        if self.norm_partial != 1 and self.norm != "rms_norm":
            raise ValueError(f"norm_partial: {self.norm_partial} needs norm rms_norm, not {self.norm}")

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def has_qkv_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @property
    def has_feed_forward_bias(self) -> bool:
        """Whether the feed-forward network has biases."""
        return self.bias if self.feed_forward_bias is None else self.feed_forward_bias

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.width // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def hidden_width(self) -> int:
        """Number of hidden units; the default has as many weights for swiglu as for two layers."""
        if self.feed_forward_width is not None:
            return self.feed_forward_width
        if self.feed_forward != "swiglu":
            return 4 * self.width
        return -(-8 * self.width // (3 * _MULTIPLE)) * _MULTIPLE


@dataclass(kw_only=True)
class PooledTransformerConfig(TransformerConfig):
    """A transformer encoder that turns a sequence into one vector."""

    pooling: Pooling = setting(
        "mean", "How the hidden states become one vector: mean, a learned cls token, or attention."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling == "cls" and self.window is not None:
            raise ValueError(
                f"pooling: cls with window {self.window} would hide most tokens from the cls token; "
                "use mean or attention"
            )
