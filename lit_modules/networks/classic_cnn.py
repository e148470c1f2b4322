"""The network of PyTorch's MNIST example, used as a baseline for speed."""

from collections.abc import Sequence

from torch import Tensor, nn

from lit_modules.layers.argument_checks import LayerImplementation
from lit_modules.layers.building_blocks import building_blocks


class ClassicCNN(nn.Module):
    """Two convolutions, one pooling and two linear layers, from pytorch/examples, `mnist/main.py`.

        conv 3×3 → 32 ─ relu ─ conv 3×3 → 64 ─ relu ─ max-pool 2×2 ─ dropout ¼ ─ flatten
        ─ linear → 128 ─ relu ─ dropout ½ ─ linear → K

    It returns logits, while the example returns their log-softmax; here the cross-entropy includes it.

    Shape letters: B images, C channels, H height, W width, K classes.

    Args:
        image_shape: (C, H, W) of one image.
        num_classes: K.
        implementation: PyTorch's layers, or the same by hand.

    Raises:
        ValueError: The image is smaller than 8×8.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_classes: int,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape[1:]) < 8:
            raise ValueError(
                f"image_shape is {tuple(image_shape)}, expected (channels, height, width) of at least 8×8"
            )
        channels, height, width = image_shape
        blocks = building_blocks(implementation)
        places = ((height - 4) // 2) * ((width - 4) // 2)
        self.body = nn.Sequential(
            blocks.conv2d(channels, 32, 3),  # (B, 32, H − 2, W − 2)
            blocks.activation("relu"),
            blocks.conv2d(32, 64, 3),  # (B, 64, H − 4, W − 4)
            blocks.activation("relu"),
            blocks.max_pool2d(2),  # (B, 64, (H − 4)/2, (W − 4)/2)
            blocks.dropout(0.25),
            nn.Flatten(),
            blocks.linear(64 * places, 128),
            blocks.activation("relu"),
        )
        self.dropout = blocks.dropout(0.5)
        self.head = blocks.linear(128, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the activations of the hidden linear layer: (B, C, H, W) → (B, 128)."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits: (B, C, H, W) → (B, K)."""
        return self.head(self.dropout(self.features(images)))
