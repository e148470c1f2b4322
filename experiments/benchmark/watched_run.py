"""A run of the full suite with one more callback, for what a benchmark has to see from within."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import Callback

from experiments import catalog, config
from experiments.run import run_config


def fit_watched(plain: Mapping[str, Any], callback: Callback) -> dict[str, float]:
    """Run a resolved config with everything a run has, and `callback` beside the suite's own.

    Lightning asks a module for callbacks of its own; so a subclass of the config's model brings this one, and
    enters the catalog for the time of the run.

    Args:
        plain: as ``config.load(…).plain`` gives it, with ``run_dir`` set.
        callback: told of every hook.

    Returns:
        The run's final metrics.
    """
    name = f"{plain['model']['name']}_watched"
    model = cast(type, catalog.target("model", plain["model"]["name"]))
    watched = type("Watched", (model,), {"configure_callbacks": lambda self: [callback]})
    schema = catalog.schema("model", plain["model"]["name"])
    catalog.CATALOG["model"][name] = catalog.Entry(target=watched, schema=schema, help="")
    try:
        return run_config(config.load({**plain, "model": {**plain["model"], "name": name}})).metrics
    finally:
        del catalog.CATALOG["model"][name]


def training_device() -> torch.device:
    """Where a bare loop trains: on the accelerator that the suite would choose, else on the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
