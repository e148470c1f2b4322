"""The stage that chooses the network, its layers and all factors on validation prompts."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config.root import Config
from experiments.config.steering_tasks import ChooseTaskConfig
from experiments.steering import steering_figures
from experiments.steering.candidates import FIRST, explained_shares, first_margins
from experiments.steering.chain import (
    Choice,
    adapted,
    check_chain,
    input_layer,
    load_network,
    open_evaluator,
    target_layer,
    trained,
)
from experiments.steering.evaluator import Evaluator, Plan
from experiments.steering.measures import mean, perplexity_ratio
from experiments.steering.methods import METHODS, WITHOUT_FACTOR
from experiments.steering.plans import all_vectors
from experiments.steering.seeds import networks_of
from experiments.studies.tasks import Stage, Task

FACTOR_OF_L2S = ("random", "l2s_shuffled")
"""Controls with vectors as long as those of the network; they are meaningful only with its factor."""


@dataclass(frozen=True)
class Tried:
    """Result of one factor on validation prompts.

    Attributes:
        margin: log p(wanted) − log p(unwanted) per token.
        perplexity: Perplexity of the steered answers under the unsteered model, divided by that of the
            unsteered answers; NaN if all answers are empty.
    """

    margin: float
    perplexity: float


Curve = Mapping[float, Tried]
"""The result of each factor."""


class ChooseTask(Task):
    """Score each trained network on validation prompts; choose one network, and a factor for each method."""

    settings: ChooseTaskConfig

    def check(self, earlier: Mapping[str, Config]) -> None:
        """Check the earlier stages; see `check_chain`."""
        check_chain(earlier, chosen=False)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Rank the networks by their margin at α = 1, then try factors with the best of them.

        The margin grows with the factor until the answers break. A factor is therefore allowed only while the
        unsteered model finds the answers about as likely as its own; see `perplexity_limit`.
        """
        evaluator, networks = open_evaluator(stages), trained(stages)
        rows = evaluator.rows("validation", limit=self.settings.prompts)
        learned = {
            name: networks_of(stage, self.settings.seeds or [stage.config.seed], run_dir, say)
            for name, stage in networks.items()
        }
        margins = first_margins(evaluator, rows, networks, learned)
        shares = explained_shares(evaluator, networks, learned)
        for name in networks:
            say(f"{name}: " + ", ".join(f"{m} {margins[f'{name}/{m}']:.3f}" for m in FIRST))
        chosen, curve = self._choose_network(evaluator, rows, networks, margins, say)
        own_way = (*WITHOUT_FACTOR, *FACTOR_OF_L2S, "l2s", "lora")
        others = [method for method in METHODS if method not in own_way]
        curves = {"l2s": curve, **self._try_factors(evaluator, rows, networks[chosen], others)}
        adapter, adapter_curve = self._choose_adapter(evaluator, rows, networks[chosen], adapted(stages), say)
        curves |= {} if adapter is None else {"lora": adapter_curve}
        alphas = {method: self._best_factor(own) for method, own in curves.items()}
        alphas |= dict.fromkeys(FACTOR_OF_L2S, alphas["l2s"])
        say(f"chosen: {chosen} with factors {', '.join(f'{m} {a:g}' for m, a in alphas.items())}")
        choice = Choice(
            stage=chosen,
            input_layer=input_layer(networks[chosen]),
            target_layer=target_layer(networks[chosen]),
            alphas=dict.fromkeys(METHODS, 1.0) | alphas,
            instruction=self.settings.instruction,
            adapter=adapter,
        )
        tried = {
            method: {f"{alpha:g}": dataclasses.asdict(one) for alpha, one in own.items()}
            for method, own in curves.items()
        }
        choice.write(run_dir, validation_margins=margins, tried=tried)
        self._draw(evaluator, choice, margins, list(networks), curves, run_dir)
        best = {method: curves[method][alphas[method]].margin for method in ("l2s", "mean", "p2s")}
        return {
            **{f"val/{name}/margin": value for name, value in margins.items()},
            **{f"val/{name}": share for name, share in shares.items()},
            **{f"val/{method}/margin": value for method, value in best.items()},
            "val/p2s_above_mean": best["p2s"] - best["mean"],
            "target_layer": float(choice.target_layer),
            "alpha": alphas["l2s"],
        }

    def _choose_network(
        self,
        evaluator: Evaluator,
        rows: Sequence[int],
        networks: Mapping[str, Stage],
        margins: Mapping[str, float],
        say: Callable[[str], None],
    ) -> tuple[str, Curve]:
        """Try the factors of the candidates with the best margins; return the best one and its curve."""
        best = sorted(networks, key=lambda name: margins[f"{name}/l2s"], reverse=True)
        curves: dict[str, Curve] = {}
        for name in best[: self.settings.candidates]:
            curves[name] = self._try_factors(evaluator, rows, networks[name], ("l2s",))["l2s"]
            say_curve(f"{name}, l2s", curves[name], say)
        chosen = self._best_curve(curves)
        return chosen, curves[chosen]

    def _choose_adapter(
        self,
        evaluator: Evaluator,
        rows: Sequence[int],
        stage: Stage,
        adapters: Mapping[str, Stage],
        say: Callable[[str], None],
    ) -> tuple[str | None, Curve]:
        """Try the factors of all low-rank updates; return the best stage, if there is one, and its curve."""
        curves: dict[str, Curve] = {}
        for name, own in adapters.items():
            curves[name] = self._try_factors(evaluator, rows, stage, ("lora",), own.run_dir)["lora"]
            say_curve(name, curves[name], say)
        chosen = self._best_curve(curves) if curves else None
        return chosen, curves.get(str(chosen), {})

    def _best_curve(self, curves: Mapping[str, Curve]) -> str:
        return max(curves, key=lambda name: curves[name][self._best_factor(curves[name])].margin)

    def _best_factor(self, curve: Curve) -> float:
        return best_factor(curve, perplexity_limit=self.settings.perplexity_limit)

    def _try_factors(
        self,
        evaluator: Evaluator,
        rows: Sequence[int],
        stage: Stage,
        methods: Sequence[str],
        adapter: Path | None = None,
    ) -> dict[str, Curve]:
        """Measure every factor with the vectors of each method, or with low-rank updates."""
        learned = load_network(stage.run_dir)
        plans = {
            f"{method} {alpha}": Plan(
                layer=target_layer(stage), vectors=vectors, factor=alpha, adapter=adapter
            )
            for method, vectors in all_vectors(evaluator, rows, stage, learned, methods).items()
            for alpha in self.settings.alphas
        }
        scores = evaluator.score(rows, plans)
        count = min(self.settings.written, len(rows))
        places = [place * len(rows) // count for place in range(count)]  # evenly spaced
        some = {name: plan.select(places) for name, plan in plans.items()}
        some["unsteered"] = dataclasses.replace(next(iter(some.values())), factor=0.0, adapter=None)
        written = evaluator.write(
            [rows[place] for place in places], some, max_new_tokens=self.settings.max_new_tokens
        )
        plain = written["unsteered"].log_probability
        return {
            method: {
                alpha: Tried(
                    margin=mean(scores[f"{method} {alpha}"].margin),
                    perplexity=perplexity_ratio(written[f"{method} {alpha}"].log_probability, plain),
                )
                for alpha in self.settings.alphas
            }
            for method in methods
        }

    @staticmethod
    def _draw(
        evaluator: Evaluator,
        choice: Choice,
        margins: Mapping[str, float],
        stages: Sequence[str],
        curves: Mapping[str, Curve],
        run_dir: Path,
    ) -> None:
        steering_figures.layers(margins, stages, FIRST, run_dir / "layers.png")
        by_factor = {m: {a: tried.margin for a, tried in own.items()} for m, own in curves.items()}
        steering_figures.factors(by_factor, run_dir / "alphas.png")
        pairs = evaluator.pairs(
            evaluator.rows("train", limit=2000),
            input_layer=choice.input_layer,
            target_layer=choice.target_layer,
        )
        steering_figures.projection(pairs, run_dir / "projection.png")


def say_curve(name: str, curve: Curve, say: Callable[[str], None]) -> None:
    """Show the result of each factor."""
    for alpha, tried in curve.items():
        say(f"{name} {alpha:g}: margin {tried.margin:.3f}, perplexity {tried.perplexity:.2f} ×")


def best_factor(curve: Curve, *, perplexity_limit: float) -> float:
    """Return the factor with the largest margin within the limit.

    If no factor is within the limit, return the factor with the lowest perplexity. If all answers of a factor
    are empty, it has no perplexity and is never within the limit.
    """
    within = [alpha for alpha, one in curve.items() if one.perplexity <= perplexity_limit]
    if within:
        return max(within, key=lambda alpha: curve[alpha].margin)
    return min(curve, key=lambda a: math.inf if math.isnan(curve[a].perplexity) else curve[a].perplexity)
