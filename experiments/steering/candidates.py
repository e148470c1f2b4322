"""How good the candidate networks of a chain are on validation prompts, before any factor is tried."""

import statistics
from collections.abc import Mapping, Sequence
from typing import get_args

from datamodules.prompts.prompt_sets import Side
from experiments.steering.chain import input_layer, target_layer
from experiments.steering.evaluator import Evaluator, Plan
from experiments.steering.explained import explained
from experiments.steering.extraction import fit_answers
from experiments.steering.measures import mean
from experiments.steering.methods import Learned, group_means
from experiments.steering.plans import all_vectors
from experiments.studies.tasks import Stage

FIRST = ("none", "mean", "ridge", "l2s", "p2s")
"""Methods that are scored with every trained stage."""

SIDES: tuple[Side, ...] = get_args(Side)

EXPLAINED = ("ridge", "fine_router", "instantiation_mean")
"""Methods that predict vectors besides the network, and the oracle that knows the answer."""


def first_margins(
    evaluator: Evaluator,
    rows: Sequence[int],
    networks: Mapping[str, Stage],
    learned: Mapping[str, Mapping[int, Learned]],
) -> dict[str, float]:
    """Compute the margin at α = 1 of each method in `FIRST` for each trained stage, as `STAGE/METHOD`.

    `learned` has the networks of each stage by seed. The margin of a network is the mean over its seeds.
    Stages with the same layers share the other methods.
    """
    plans: dict[str, Plan] = {}
    layers = {name: (input_layer(stage), target_layer(stage)) for name, stage in networks.items()}
    first = {pair: name for name, pair in reversed(layers.items())}  # first stage with these layers
    for name, stage in networks.items():
        for seed, network in learned[name].items():
            methods = FIRST if name == first[layers[name]] and seed == min(learned[name]) else ("l2s",)
            for method, vectors in all_vectors(evaluator, rows, stage, network, methods).items():
                key = f"{name}/{method}/{seed}" if method == "l2s" else f"{name}/{method}"
                plans[key] = Plan(layer=target_layer(stage), vectors=vectors)
    scored = {key: mean(scores.margin) for key, scores in evaluator.score(rows, plans).items()}
    margins: dict[str, float] = {}
    for name, pair in layers.items():
        margins |= {
            f"{name}/{method}": scored[f"{first[pair]}/{method}"] for method in FIRST if method != "l2s"
        }
        of_seeds = [scored[f"{name}/l2s/{seed}"] for seed in learned[name]]
        margins[f"{name}/l2s"] = mean(of_seeds)
        if len(of_seeds) > 1:
            margins[f"{name}/l2s_std"] = statistics.stdev(of_seeds)
    return margins


def explained_shares(
    evaluator: Evaluator, networks: Mapping[str, Stage], learned: Mapping[str, Mapping[int, Learned]]
) -> dict[str, float]:
    """Compute `STAGE/METHOD/r2` and `STAGE/METHOD/beyond_answer` on all validation prompts; see `explained`.

    The shares of a network are means over its seeds, `STAGE/l2s_std/…` their sample standard deviations. A
    further oracle, `sentences`, knows from which sentences a vector was made: it is the mean training vector
    of the same sentences.
    """
    train, rows = evaluator.rows("train"), evaluator.rows("validation")
    made_from, known = sentences(evaluator, rows), sentences(evaluator, train)
    found: dict[str, float] = {}
    for name, stage in networks.items():
        some = learned[name][min(learned[name])]  # needed, but not used by these methods
        vectors = all_vectors(evaluator, rows, stage, some, ("p2s", *EXPLAINED))
        target, means = vectors.pop("p2s"), vectors["instantiation_mean"]
        if set(made_from) <= set(known):
            pairs = evaluator.pairs(train, input_layer=input_layer(stage), target_layer=target_layer(stage))
            vectors["sentences"] = group_means(pairs.z, known, made_from)
        for method, predicted in vectors.items():
            shares = vars(explained(target, predicted, means))
            found |= {f"{name}/{method}/{key}": value for key, value in shares.items()}
        pairs = evaluator.pairs(rows, input_layer=input_layer(stage), target_layer=target_layer(stage))
        of_seeds = [explained(target, network(pairs.h), means) for network in learned[name].values()]
        for key in vars(of_seeds[0]):
            values = [getattr(one, key) for one in of_seeds]
            found[f"{name}/l2s/{key}"] = mean(values)
            if len(values) > 1:
                found[f"{name}/l2s_std/{key}"] = statistics.stdev(values)
    return found


def sentences(evaluator: Evaluator, rows: Sequence[int]) -> list[str]:
    """Return one name for each prompt, equal for prompts whose vectors were made from the same sentences."""

    def texts(row: int, side: Side) -> list[str]:
        prompt = evaluator.prompts.prompts[row]
        return sorted(fit_answers(evaluator.prompts, prompt, side, evaluator.answers, row))

    return [str([texts(row, side) for side in SIDES]) for row in rows]
