"""The contrastive encoder: an image network that learns without labels, from two views of each image."""

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import BinaryAccuracy

from datamodules.info import ImageInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.contrastive_encoder import ContrastiveEncoderConfig
from lit_modules.configs.objective import NTXentConfig
from lit_modules.functional.precision import widen
from lit_modules.image_classifier import image_network
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.objective import NTXent, Objective

Batch = tuple[Tensor, Tensor, Tensor]
"""First views and second views (B, C, H, W), and targets (B,), which nothing here uses."""


class ContrastiveEncoder(LitModule):
    """A residual CNN with a projection head, trained as in SimCLR (Chen et al. 2020, figure 2).

        image ─ random change ─ CNN ─ features ─ head ─ projection ┐
          └──── random change ─ CNN ─ features ─ head ─ projection ┴ objective

    The head, a perceptron with one hidden layer, serves the objective only. `features` are what a probe or a
    later classifier uses. The layers have the names of those of `residual_cnn`, which can start from them by
    `model.init_from`.

    Evaluation logs the objective, and `found`, the share of images whose second view is more similar to the
    first view than all other second views of the batch. Both depend on the batch size.
    """

    views = 2
    info_type = ImageInfo
    data_names = ("mnist", "fashion_mnist", "digits", "image_folder")

    info: ImageInfo

    def __init__(self, config: ContrastiveEncoderConfig, info: ImageInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        network = image_network(config, info.input_shape, config.projection)
        layers, width = building_blocks(config.implementation), config.widths[-1]
        network.head = nn.Sequential(
            layers.linear(width, width), layers.activation("relu"), layers.linear(width, config.projection)
        )
        self.network = network.to(memory_format=torch.channels_last) if config.channels_last else network

    @staticmethod
    def default_objective() -> Objective:
        """Return NT-Xent with its usual temperature."""
        return NTXent(NTXentConfig())

    def features(self, inputs: Tensor) -> Tensor:
        """Return the activations (B, F) below the projection head for images (B, C, H, W)."""
        return self.network.features(inputs)  # type: ignore[operator]

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add the share of images whose second view is found."""
        return {**super().build_metrics(stage), "found": BinaryAccuracy(validate_args=False)}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the objective of one batch."""
        return {"loss": self.objective(*self._projections(batch))}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return the objective for each image (B,), and whether its second view is found (B,)."""
        first, second = self._projections(batch)
        unit = [nn.functional.normalize(views, dim=-1) for views in (first, second)]
        found = (unit[0] @ unit[1].T).argmax(1) == torch.arange(len(first), device=first.device)
        losses = self.objective(first, second).expand(len(first))
        return {"losses": losses, "logits": found.int(), "targets": torch.ones_like(found, dtype=torch.int)}

    def _projections(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the projections (B, D) of both views, from one pass, so that batch norm sees both."""
        first, second, _ = batch
        projections = widen(self.network(torch.cat([first, second])))
        return projections[: len(first)], projections[len(first) :]
