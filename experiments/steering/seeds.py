"""The networks of a stage with other training seeds."""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.config.check import load_config
from experiments.steering.chain import load_network, network_dir
from experiments.steering.methods import Learned
from experiments.studies.tasks import Stage
from experiments.training.fit import fit


def networks_of(
    stage: Stage, seeds: Sequence[int], run_dir: Path, say: Callable[[str], None]
) -> dict[int, Learned]:
    """Return a trained network of a stage for each seed; those that are missing are trained in `run_dir`."""
    found = {}
    for seed in seeds:
        place = network_dir(stage, run_dir, seed)
        if place != stage.run_dir:
            say(f"training {stage.run_dir.name} with seed {seed}")
            # The resolved config of the stage names the file of hidden states; the chain's does not.
            fit(load_config(stage.config.plain, {"seed": seed, "run_dir": str(place), "resume": "auto"}))
        found[seed] = load_network(place)
    return found
