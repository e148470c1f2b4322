"""The first lesson: find w in y = w x, with a gradient by autograd or by hand."""

from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from datamodules.info import TableInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.slope import SlopeConfig
from lit_modules.layers.building_blocks import building_blocks

Batch = tuple[Tensor, Tensor]


class _SquaredError(Function):
    """L = mean of (w x − y)²;  ∂L/∂w = mean of 2 x (w x − y)."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        error = w * x - y
        ctx.slope = (2 * x * error).mean()
        return error.square().mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad * ctx.slope).reshape(1, 1), None, None


class Slope(LitModule):
    """A line through the origin, from rows x (B, 1) to targets y (B, 1).

    Raises:
        ValueError: The data has more than one feature or more than one target.
    """

    dashboard = "regression"
    info_type = TableInfo
    data_names = ("table",)

    config: SlopeConfig
    info: TableInfo
    network: nn.Linear

    def __init__(self, config: SlopeConfig, info: TableInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        if len(info.feature_names) != 1 or len(info.target_names) != 1:
            raise ValueError(
                f"slope needs one feature and one target, but the table has {len(info.feature_names)} and "
                f"{len(info.target_names)}; use model.name=table_regression"
            )
        self.network = building_blocks(config.implementation).linear(1, 1, bias=False)
        nn.init.constant_(self.network.weight, config.initial)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the mean squared error of one batch."""
        x, y = batch
        if self.config.implementation == "by_hand":
            loss = _SquaredError.apply(self.network.weight, x, y)
        else:
            loss = (self.network(x) - y).square().mean()
        return {"loss": loss, "targets": y}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return the squared errors (B,), the predictions (B, 1) and the targets (B, 1)."""
        x, y = batch
        predicted = self(x)
        return {"losses": (predicted - y).square().squeeze(1), "logits": predicted, "targets": y}

    def progress_note(self) -> str:
        """Return the current w."""
        return f"w = {self.network.weight.item():.4f}"
