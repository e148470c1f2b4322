"""Build optimizers and schedules that users have registered."""

from typing import Any

from torch.optim import Optimizer

from experiments.config import registry
from experiments.config.root import Section
from experiments.config.signature import arguments
from experiments.errors import UserError
from lit_modules.optim.optimizers import make_optimizer
from lit_modules.optim.parameter_groups import Parameters, parameter_groups
from lit_modules.optim.schedules import Schedule, build_schedule


def connect(kind: str, section: Section) -> None:
    """Make `build_optimizer` or `build_schedule` able to build what a user has registered."""
    entry = registry.entry(kind, section.name)
    if entry.target is None:  # the suite builds it from the type of its config
        return
    target: Any = registry.target(kind, section.name)

    def optimizer(config: Any, decayed: Parameters, undecayed: Parameters) -> Optimizer:
        groups = parameter_groups(decayed, undecayed, getattr(config, "weight_decay", 0.0))
        built = target(groups, **arguments(kind, target, config, {}))
        if not isinstance(built, Optimizer):
            raise UserError(f"optimizer {section.name!r}: {type(built).__name__} is no torch Optimizer")
        return built

    def schedule(config: Any, *, total_steps: int, steps_per_epoch: int) -> Schedule:
        offered = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        settings = arguments(kind, target, config, offered)

        def factor(step: int) -> float:
            found = target(step, **settings)
            try:
                return float(found)
            except (TypeError, ValueError):
                raise UserError(
                    f"schedule {section.name!r} must return a number, got {type(found).__name__}"
                ) from None

        return factor

    if kind == "optimizer":
        make_optimizer.register(type(section.config), optimizer)
    else:
        build_schedule.register(type(section.config), schedule)
