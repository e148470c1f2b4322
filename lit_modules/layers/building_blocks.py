"""The layers that networks consist of: PyTorch's, or the same by hand.

Both have the same parameters, names and initial values, so a checkpoint of one fits the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from lit_modules.layers.activations import make_activation
from lit_modules.layers.argument_checks import LayerImplementation, check_choice
from lit_modules.layers.convolution import Conv2d, MaxPool2d, Size
from lit_modules.layers.dropout import ElementDropout
from lit_modules.layers.embedding_table import Embedding
from lit_modules.layers.linear import Linear
from lit_modules.layers.norm import BatchNorm, LayerNorm, RMSNorm


@dataclass(frozen=True, kw_only=True)
class BuildingBlocks:
    """The layers of one implementation; each takes the arguments of PyTorch's layer of that name."""

    linear: type[nn.Linear]
    embedding: type[nn.Embedding]
    conv2d: Callable[..., nn.Conv2d]
    max_pool2d: Callable[[int], nn.Module]
    batch_norm1d: Callable[[int], nn.Module]
    batch_norm2d: Callable[[int], nn.Module]
    layer_norm: Callable[[int], nn.Module]
    rms_norm: Callable[[int], nn.Module]
    dropout: type[nn.Dropout]
    activation: Callable[[str], nn.Module]  # from the name, see `make_activation`

    def norm(self, name: str, num_features: int) -> nn.Module:
        """Build a norm of features (B, F) by name.

        Raises:
            ValueError: Unknown name.
        """
        norms = {"batch_norm": self.batch_norm1d, "layer_norm": self.layer_norm, "rms_norm": self.rms_norm}
        if name not in norms:
            raise ValueError(f"norm is {name!r}, expected one of {', '.join(map(repr, norms))}")
        return norms[name](num_features)


def _conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    bias: bool = True,
) -> Conv2d:
    return Conv2d(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        bias=bias,
        implementation="by_hand",
    )


def _max_pool2d(kernel_size: int) -> MaxPool2d:
    return MaxPool2d(kernel_size=kernel_size, implementation="by_hand")


_batch_norm = partial(BatchNorm, layout="channels_first", implementation="by_hand")
_BLOCKS = {
    "fused": BuildingBlocks(
        linear=nn.Linear,
        embedding=nn.Embedding,
        conv2d=nn.Conv2d,
        max_pool2d=nn.MaxPool2d,
        batch_norm1d=nn.BatchNorm1d,
        batch_norm2d=nn.BatchNorm2d,
        layer_norm=LayerNorm,
        rms_norm=RMSNorm,
        dropout=nn.Dropout,
        activation=make_activation,
    ),
    "by_hand": BuildingBlocks(
        linear=Linear,
        embedding=Embedding,
        conv2d=_conv2d,
        max_pool2d=_max_pool2d,
        batch_norm1d=_batch_norm,
        batch_norm2d=_batch_norm,
        layer_norm=partial(LayerNorm, implementation="by_hand"),
        rms_norm=partial(RMSNorm, implementation="by_hand"),
        dropout=ElementDropout,
        activation=partial(make_activation, implementation="by_hand"),
    ),
}


def layer_implementation(implementation: str) -> LayerImplementation:
    """Return the implementation of the layers around a kind of attention.

    Around `tiled` they are by hand, around `triton` they are PyTorch's.

    Raises:
        ValueError: Unknown implementation.
    """
    name = {"tiled": "by_hand", "triton": "fused"}.get(implementation, implementation)
    check_choice("implementation", name, LayerImplementation)
    return "fused" if name == "fused" else "by_hand"


def building_blocks(implementation: str) -> BuildingBlocks:
    """Return the layers of an implementation, see `layer_implementation`.

    Raises:
        ValueError: Unknown implementation.
    """
    return _BLOCKS[layer_implementation(implementation)]
