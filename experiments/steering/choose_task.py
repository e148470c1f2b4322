"""The stage that decides on validation prompts what the later stages steer with."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments.steering import pictures
from experiments.steering.bench import Bench, Plan, Scores, mean
from experiments.steering.chain import (
    CHOICE,
    Choice,
    all_vectors,
    input_layer,
    load_network,
    open_bench,
    target_layer,
    trained,
)
from experiments.steering.methods import METHODS, WITHOUT_FACTOR
from experiments.steering.tasks_config import ChooseTaskConfig
from experiments.tasks import Stage


class ChooseTask:
    """Scores each trained network on validation prompts; picks one, and each method's factor."""

    def __init__(self, settings: ChooseTaskConfig) -> None:
        self.settings = settings

    def check(self) -> None:
        """Nothing can be known before."""

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Networks by the margin of log-probabilities, then factors by that of the wanted answers alone.

        The margin grows with the factor until answers break; the wanted answers' own probability doesn't.
        """
        bench, networks = open_bench(stages), trained(stages)
        rows = bench.rows("validation", limit=self.settings.prompts)
        shown = ("none", "mean", "ridge", "l2s", "p2s")
        plans: dict[str, Plan] = {}
        for name, stage in networks.items():
            vectors = all_vectors(bench, rows, stage, load_network(stage.run_dir), shown)
            layer = target_layer(stage)
            plans |= {f"{name}/{method}": Plan(layer=layer, vectors=v) for method, v in vectors.items()}
        margins = {name: mean(scores.margin) for name, scores in bench.score(rows, plans).items()}
        for name in networks:
            say(f"{name}: " + ", ".join(f"{m} {margins[f'{name}/{m}']:.3f}" for m in shown))
        best = sorted(networks, key=lambda name: margins[f"{name}/l2s"], reverse=True)
        sweep = self._sweep(bench, rows, {name: networks[name] for name in best[: self.settings.candidates]})
        chosen = max(
            best[: self.settings.candidates],
            key=lambda name: max(mean(s.wanted) for s in sweep[name]["l2s"].values()),
        )
        alphas = {
            method: max(by_alpha, key=lambda alpha: mean(by_alpha[alpha].wanted))
            for method, by_alpha in sweep[chosen].items()
        }
        stage = networks[chosen]
        choice = Choice(chosen, input_layer(stage), target_layer(stage), dict.fromkeys(METHODS, 1.0) | alphas)
        choice.write(run_dir / CHOICE, validation_margins=margins)
        say(f"chosen: {chosen} with factors {', '.join(f'{m} {a:g}' for m, a in alphas.items())}")
        curves = {
            method: {alpha: mean(scores.margin) for alpha, scores in by_alpha.items()}
            for method, by_alpha in sweep[chosen].items()
        }
        pictures.layers(margins, list(networks), shown, run_dir / "layers.png")
        pictures.factors(curves, run_dir / "alphas.png")
        pairs = bench.pairs(
            bench.rows("train", limit=2000), input_layer=choice.input_layer, target_layer=choice.target_layer
        )
        pictures.projection(pairs, run_dir / "projection.png")
        gap = margins[f"{chosen}/p2s"] - margins[f"{chosen}/mean"]
        return {
            **{f"val/{name}/margin": value for name, value in margins.items()},
            "val/p2s_above_mean": gap,
            "target_layer": float(choice.target_layer),
            "alpha": alphas["l2s"],
        }

    def _sweep(
        self, bench: Bench, rows: Sequence[int], networks: Mapping[str, Stage]
    ) -> dict[str, dict[str, dict[float, Scores]]]:
        """Scores of each network's methods by factor."""
        found: dict[str, dict[str, dict[float, Scores]]] = {}
        methods = [method for method in METHODS if method not in WITHOUT_FACTOR]
        for name, stage in networks.items():
            vectors = all_vectors(bench, rows, stage, load_network(stage.run_dir), methods)
            plans = {
                (method, alpha): Plan(layer=target_layer(stage), vectors=v, alpha=alpha)
                for method, v in vectors.items()
                for alpha in self.settings.alphas
            }
            scores = bench.score(rows, {f"{m} {a}": plan for (m, a), plan in plans.items()})
            found[name] = {m: {a: scores[f"{m} {a}"] for a in self.settings.alphas} for m in methods}
        return found
