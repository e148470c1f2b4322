"""The residual connection: the output of a block is added to its input."""

from typing import Any

from torch import Tensor, nn


class Residual(nn.Module):
    """y = s(x) + f(x), with the identity or a projection as shortcut s (He et al. 2016, eq. 1 and 2).

    Args:
        block: f, a module from a tensor to a tensor.
        shortcut: s; the identity by default. A block that changes the shape needs a linear layer, or a 1×1
            convolution with the same stride.

    Source: He et al. 2016, "Deep residual learning for image recognition".
    """

    def __init__(self, block: nn.Module, *, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Add the outputs of the block and the shortcut.

        Returns:
            A tensor with the shape of the block's output.

        Raises:
            ValueError: The two outputs have different shapes.
        """
        shortcut, update = self.shortcut(x), self.block(x, *args, **kwargs)
        if shortcut.shape != update.shape:
            raise ValueError(
                f"the block returns shape {tuple(update.shape)} and the shortcut {tuple(shortcut.shape)}; "
                "pass a shortcut with the same output shape"
            )
        return shortcut + update
