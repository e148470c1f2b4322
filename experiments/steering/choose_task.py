"""The stage that decides on validation prompts what the later stages steer with."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config.root import Config
from experiments.config.steering_tasks import ChooseTaskConfig
from experiments.steering import pictures
from experiments.steering.bench import Bench, Plan, mean, perplexity_ratio
from experiments.steering.chain import (
    CHOICE,
    Choice,
    check_chain,
    input_layer,
    load_network,
    open_bench,
    target_layer,
    trained,
)
from experiments.steering.methods import METHODS, WITHOUT_FACTOR
from experiments.steering.plans import all_vectors
from experiments.studies.tasks import Stage

FIRST = ("none", "mean", "ridge", "l2s", "p2s")
"""The methods that every trained stage is looked at with."""

FACTOR_OF_L2S = ("random", "l2s_shuffled")
"""Controls: vectors as long as the network's, which say something only with its factor."""


@dataclass(frozen=True)
class Tried:
    """What a factor did on validation prompts.

    Attributes:
        margin: log p(wanted) − log p(unwanted) per token.
        perplexity: Of what the model wrote, to the unsteered model, as a multiple of its own writing's; NaN
            where it never answered.
    """

    margin: float
    perplexity: float


class ChooseTask:
    """Scores each trained network on validation prompts; picks one, and each method's factor."""

    def __init__(self, settings: ChooseTaskConfig) -> None:
        self.settings = settings

    def check(self, earlier: Mapping[str, Config]) -> None:
        """See `check_chain`."""
        check_chain(earlier, chosen=False)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Networks by the margin of log-probabilities at α = 1; then the best ones' factors, and one of them.

        The margin grows with the factor until answers break, so a factor counts only while what the model
        writes stays about as likely without steering: see `perplexity_limit`.
        """
        bench, networks = open_bench(stages), trained(stages)
        rows = bench.rows("validation", limit=self.settings.prompts)
        margins = first_look(bench, rows, networks)
        for name in networks:
            say(f"{name}: " + ", ".join(f"{m} {margins[f'{name}/{m}']:.3f}" for m in FIRST))
        best = sorted(networks, key=lambda name: margins[f"{name}/l2s"], reverse=True)
        sweeps: dict[str, dict[float, Tried]] = {}
        for name in best[: self.settings.candidates]:
            sweeps[name] = self._sweep(bench, rows, networks[name], ("l2s",))["l2s"]
            for alpha, tried in sweeps[name].items():
                say(f"{name}, l2s {alpha:g}: margin {tried.margin:.3f}, perplexity {tried.perplexity:.2f} ×")
        limit = self.settings.perplexity_limit
        chosen = max(
            sweeps, key=lambda name: sweeps[name][best_factor(sweeps[name], perplexity_limit=limit)].margin
        )
        stage = networks[chosen]
        others = [method for method in METHODS if method not in (*WITHOUT_FACTOR, *FACTOR_OF_L2S, "l2s")]
        curves = {"l2s": sweeps[chosen]} | self._sweep(bench, rows, stage, others)
        alphas = {m: best_factor(by_alpha, perplexity_limit=limit) for m, by_alpha in curves.items()}
        alphas |= dict.fromkeys(FACTOR_OF_L2S, alphas["l2s"])
        choice = Choice(
            stage=chosen,
            input_layer=input_layer(stage),
            target_layer=target_layer(stage),
            alphas=dict.fromkeys(METHODS, 1.0) | alphas,
            instruction=self.settings.instruction,
        )
        tried_all = {
            method: {f"{alpha:g}": dataclasses.asdict(tried) for alpha, tried in by_alpha.items()}
            for method, by_alpha in curves.items()
        }
        choice.write(run_dir / CHOICE, validation_margins=margins, tried=tried_all)
        say(f"chosen: {chosen} with factors {', '.join(f'{m} {a:g}' for m, a in alphas.items())}")
        pictures.layers(margins, list(networks), FIRST, run_dir / "layers.png")
        pictures.factors(
            {m: {a: tried.margin for a, tried in by_alpha.items()} for m, by_alpha in curves.items()},
            run_dir / "alphas.png",
        )
        some = bench.rows("train", limit=2000)
        pairs = bench.pairs(some, input_layer=choice.input_layer, target_layer=choice.target_layer)
        pictures.projection(pairs, run_dir / "projection.png")
        at_best = {method: curves[method][alphas[method]].margin for method in ("l2s", "mean", "p2s")}
        return {
            **{f"val/{name}/margin": value for name, value in margins.items()},
            **{f"val/{method}/margin": value for method, value in at_best.items()},
            "val/p2s_above_mean": at_best["p2s"] - at_best["mean"],
            "target_layer": float(choice.target_layer),
            "alpha": alphas["l2s"],
        }

    def _sweep(
        self, bench: Bench, rows: Sequence[int], stage: Stage, methods: Sequence[str]
    ) -> dict[str, dict[float, Tried]]:
        """What each factor does with each method's vectors."""
        learned = load_network(stage.run_dir)
        vectors = all_vectors(bench, rows, stage, learned, methods)
        plans = {
            (method, alpha): Plan(layer=target_layer(stage), vectors=v, alpha=alpha)
            for method, v in vectors.items()
            for alpha in self.settings.alphas
        }
        scores = bench.score(rows, {f"{m} {a}": plan for (m, a), plan in plans.items()})
        count = min(self.settings.written, len(rows))
        places = [place * len(rows) // count for place in range(count)]
        asked = [rows[place] for place in places]

        shorter = {
            f"{m} {a}": dataclasses.replace(plan, vectors=plan.vectors[places])
            for (m, a), plan in plans.items()
        }
        shorter["unsteered"] = dataclasses.replace(next(iter(shorter.values())), alpha=0.0)
        written = bench.write(asked, shorter, max_new_tokens=self.settings.max_new_tokens)
        return {
            method: {
                alpha: Tried(
                    margin=mean(scores[f"{method} {alpha}"].margin),
                    perplexity=perplexity_ratio(written[f"{method} {alpha}"], written["unsteered"]),
                )
                for alpha in self.settings.alphas
            }
            for method in methods
        }


def first_look(bench: Bench, rows: Sequence[int], networks: Mapping[str, Stage]) -> dict[str, float]:
    """The margin at α = 1 that each of `FIRST` has with each trained stage, as `STAGE/METHOD`."""
    plans: dict[str, Plan] = {}
    for name, stage in networks.items():
        vectors = all_vectors(bench, rows, stage, load_network(stage.run_dir), FIRST)
        layer = target_layer(stage)
        plans |= {f"{name}/{method}": Plan(layer=layer, vectors=v) for method, v in vectors.items()}
    return {name: mean(scores.margin) for name, scores in bench.score(rows, plans).items()}


def best_factor(tried: Mapping[float, Tried], *, perplexity_limit: float) -> float:
    """The α of the largest margin among those within the limit; if none is, the least perplexing.

    Where nothing was answered, there is no perplexity, and it is within no limit.
    """
    within = [alpha for alpha, one in tried.items() if one.perplexity <= perplexity_limit]
    if within:
        return max(within, key=lambda alpha: tried[alpha].margin)
    return min(tried, key=lambda a: math.inf if math.isnan(tried[a].perplexity) else tried[a].perplexity)
