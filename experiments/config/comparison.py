"""The schema of the section `comparison`: what the table and the figure of a study show."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class ComparisonConfig:
    """What the table and the figure of a study show."""

    columns: list[str] = setting(
        ["test/*", "fit_seconds", "parameters"], "Final metrics in the table; names or patterns."
    )
    panels: list[str] | None = setting(
        None, "Final metrics in the figure, one panel each; names or patterns. null: those of the table."
    )
    curves: list[str] = setting(["val/*"], "Logged curves in the figure, one panel each; names or patterns.")
    x: str | list[str] = setting(
        "step",
        "Horizontal axis of the curves; a list draws a curve over each. epoch: the mean of all points "
        "of an epoch. second: the mean training time of the variant's runs, without validation. position: "
        "for test/loss_by_position of trainer.measure.",
        choices=("step", "epoch", "second", "position"),
    )
    by_layer: list[str] = setting(
        [],
        "Measurements of each layer, such as layer_gradient, drawn over the layers, at the first and at the "
        "last point of their curves.",
    )
    log_x: bool = setting(False, "Draw the curves over a logarithmic horizontal axis.")
    log_y: bool = setting(False, "Draw the curves over a logarithmic vertical axis.")
    share_y: bool = setting(False, "Draw all curves to the same vertical scale.")
