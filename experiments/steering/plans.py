"""The plans that are compared: every way to steer, and the learned ones with the network of each seed.

Shape letters: M prompts asked, W width.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from experiments.config.steering_tasks import CompareTaskConfig
from experiments.steering.bench import Bench, Plan, mean
from experiments.steering.chain import Choice, Learned, input_layer, load_network, target_layer
from experiments.steering.methods import METHODS, OF_A_SEED, steering_vectors
from experiments.studies.tasks import Stage


def all_vectors(
    bench: Bench,
    rows: Sequence[int],
    stage: Stage,
    learned: Learned,
    methods: Iterable[str],
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Each method's vectors for the prompts asked, from the training prompts at a stage's layers."""
    layers = {"input_layer": input_layer(stage), "target_layer": target_layer(stage)}
    places = [*bench.rows("train"), *bench.rows("train", neutral=True)]
    train, asked = bench.pairs(places, **layers), bench.pairs(rows, **layers)
    return {method: steering_vectors(method, train, asked, learned=learned, seed=seed) for method in methods}


def all_plans(
    bench: Bench,
    rows: Sequence[int],
    stage: Stage,
    choice: Choice,
    networks: Mapping[int, Learned],
    methods: Iterable[str] = METHODS,
    *,
    of_a_seed: Collection[str] = OF_A_SEED,
) -> dict[str, Plan]:
    """How each method answers these prompts, as `METHOD/SEED`.

    Those that no seed decides are there once.

    Args:
        bench: The model and its prompts.
        rows: The prompts asked.
        stage: That the layers are of.
        choice: The factors.
        networks: The learned network of each seed.
        methods: Which.
        of_a_seed: Those that are there for each seed.
    """
    found = {}
    for seed, learned in networks.items():
        own = [method for method in methods if method in of_a_seed or seed == min(networks)]
        for method, vectors in all_vectors(bench, rows, stage, learned, own, seed=seed).items():
            found[f"{method}/{seed}"] = choice.plan(method, vectors)
    return found


def over_seeds(values: Mapping[str, Sequence[float]], method: str) -> list[float]:
    """What belongs to each prompt, its mean over the seeds that a method was run with; NaN where one is.

    Args:
        values: Of each `METHOD/SEED`.
        method: Whose.
    """
    runs = [own for key, own in values.items() if key.partition("/")[0] == method]
    return [mean(values) for values in zip(*runs, strict=True)]


def network_dir(stage: Stage, compared: Path, seed: int) -> Path:
    """Where a stage's network of a seed is: its own, or trained by the comparing stage in its directory."""
    return stage.run_dir if seed == stage.config.seed else compared / f"{stage.run_dir.name}_seed_{seed}"


def compared_networks(stage: Stage, stages: Mapping[str, Stage]) -> dict[int, Learned]:
    """The networks of the comparing stage by their seeds; without such a stage, the one of `stage`."""
    for other in stages.values():
        settings = None if other.config.task is None else other.config.task.config
        if isinstance(settings, CompareTaskConfig):
            return {seed: load_network(network_dir(stage, other.run_dir, seed)) for seed in settings.seeds}
    return {stage.config.seed: load_network(stage.run_dir)}
