"""The multilayer perceptron on flattened images."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation
from lit_modules.layers.building_blocks import building_blocks


class MLP(nn.Module):
    """A multilayer perceptron: x ← dropout(act(norm(W x + b))) in each hidden layer, then W x + b.

    Shape letters: B images, C channels, H height, W width, F width of the last hidden layer, K classes.

    Args:
        image_shape: (C, H, W) of one image.
        num_classes: K.
        hidden: Widths of the hidden layers; an empty list gives a linear classifier.
        activation: `"relu"`, `"gelu"` or `"silu"`.
        batch_norm: Whether each activation follows a batch norm (Ioffe & Szegedy 2015). The linear layer
            before the norm has no bias, because the norm would cancel it.
        dropout: Probability of dropping a hidden activation in training (Srivastava et al. 2014).
        implementation: PyTorch's layers, or the same by hand.

    Raises:
        ValueError: `image_shape` is not (C, H, W); unknown activation.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_classes: int,
        hidden: Sequence[int],
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        if len(image_shape) != 3:
            raise ValueError(f"image_shape is {tuple(image_shape)}, expected (channels, height, width)")
        channels, height, width = image_shape
        blocks = building_blocks(implementation)
        widths = [channels * height * width, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers.append(blocks.linear(fan_in, fan_out, bias=not batch_norm))
            if batch_norm:
                layers.append(blocks.batch_norm1d(fan_out))
            layers.append(blocks.activation(activation))
            if dropout:
                layers.append(blocks.dropout(dropout))
        self.body = nn.Sequential(*layers)
        self.head = blocks.linear(widths[-1], num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the activations of the last hidden layer: (B, C, H, W) → (B, F)."""
        return self.body(images.flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits: (B, C, H, W) → (B, K)."""
        return self.head(self.features(images))
