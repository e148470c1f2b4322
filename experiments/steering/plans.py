"""The plans that are compared: one for each method, and for seeded methods one for each seed.

Shape letters: M evaluated prompts, W width.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from experiments.steering.chain import Choice, input_layer, target_layer
from experiments.steering.evaluator import Evaluator, Plan
from experiments.steering.measures import mean
from experiments.steering.methods import SEEDED, Learned
from experiments.studies.tasks import Stage


def all_vectors(
    evaluator: Evaluator,
    rows: Sequence[int],
    stage: Stage,
    learned: Learned,
    methods: Iterable[str],
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Compute the vectors (M, W) of each method at the layers of a stage."""
    layers = {"input_layer": input_layer(stage), "target_layer": target_layer(stage)}
    fitted, asked = evaluator.fitted(**layers), evaluator.pairs(rows, **layers)
    return {method: fitted.vectors(method, asked, learned=learned, seed=seed) for method in methods}


def all_plans(
    evaluator: Evaluator,
    rows: Sequence[int],
    stage: Stage,
    choice: Choice,
    networks: Mapping[int, Learned],
    methods: Iterable[str],
    *,
    adapter: Path | None,
    seeded: Collection[str] = SEEDED,
) -> dict[str, Plan]:
    """Build the plan of each method, named `METHOD/SEED`.

    A method without a seed has one plan, named with the lowest seed.

    `networks` has the learned network of each seed; a method in `seeded` gets a plan for each seed. `adapter`
    is the run directory of the low-rank updates that the method `lora` uses.
    """
    found = {}
    for seed, learned in networks.items():
        own = [method for method in methods if method in seeded or seed == min(networks)]
        for method, vectors in all_vectors(evaluator, rows, stage, learned, own, seed=seed).items():
            found[f"{method}/{seed}"] = choice.plan(method, vectors, adapter)
    return found


def over_seeds(values: Mapping[str, Sequence[float]], method: str) -> list[float]:
    """Average the values of a method over its seeds, prompt by prompt; NaN if one value is NaN.

    `values` maps each `METHOD/SEED` to one value for each prompt.
    """
    runs = [own for key, own in values.items() if key.partition("/")[0] == method]
    return [mean(values) for values in zip(*runs, strict=True)]
