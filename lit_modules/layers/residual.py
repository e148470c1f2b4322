"""The residual connection: a block learns what to add to its input."""

from typing import Any

from torch import Tensor, nn


class Residual(nn.Module):
    r"""y = s(x) + f(x), with the identity or a projection as shortcut s (He et al. 2016, eq. 1 and 2).

    Source: He et al. 2016, "Deep residual learning for image recognition".

    Args:
        block: f, any module that maps a tensor to a tensor.
        shortcut: s, for a block that changes the shape: a linear layer, or a convolution of size 1 with the
            block's stride. The identity by default.
    """

    def __init__(self, block: nn.Module, *, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Add the block's output to the shortcut's.

        Args:
            x: Input of any shape.
            args: Passed on to the block.
            kwargs: Passed on to the block.

        Returns:
            A tensor of the block's output shape.

        Raises:
            ValueError: The two shapes differ; adding them would broadcast, or fail less clearly.
        """
        shortcut, update = self.shortcut(x), self.block(x, *args, **kwargs)
        if shortcut.shape != update.shape:
            raise ValueError(
                f"the block gives {tuple(update.shape)} and the shortcut {tuple(shortcut.shape)}; "
                "a block that changes the shape needs a `shortcut` that does the same"
            )
        return shortcut + update
