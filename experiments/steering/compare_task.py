"""The stage that asks every way to steer the same held-out prompts, and scores held-out answers."""

from collections.abc import Callable, Mapping
from pathlib import Path

from experiments import config as configs
from experiments import run_directory
from experiments.steering.bench import Plan, Scores, mean
from experiments.steering.chain import (
    Learned,
    all_vectors,
    load_network,
    open_bench,
    read_choice,
    trained,
)
from experiments.steering.comparison import compare, table
from experiments.steering.methods import METHODS
from experiments.steering.tasks_config import CompareTaskConfig
from experiments.tasks import Stage


class CompareTask:
    """The comparison that decides: every way to steer on the same held-out prompts, by held-out answers."""

    def __init__(self, settings: CompareTaskConfig) -> None:
        self.settings = settings

    def check(self) -> None:
        """Nothing can be known before."""

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Score all methods; the learned ones with a network for each seed."""
        bench, choice = open_bench(stages), read_choice(stages)
        stage = trained(stages)[choice.stage]
        networks = self._networks(stage, run_dir, say)
        half = self.settings.prompts // 2
        rows = [row for seen in (True, False) for row in bench.rows("test", seen=seen, limit=half)]
        plans: dict[str, Plan] = {}
        for seed, learned in networks.items():
            methods = METHODS if seed == min(networks) else ("random", "l2s", "l2s_shuffled")
            for method, vectors in all_vectors(bench, rows, stage, learned, methods, seed=seed).items():
                plans[f"{method}/{seed}"] = choice.plan(method, vectors)
        say(f"{len(rows)} test prompts, {len(plans)} ways to answer each")
        scores = bench.score(rows, plans, rank=True)
        prompts = bench.chosen(rows)
        margins = {method: over_seeds(scores, method, "margin") for method in METHODS}
        rights = {method: over_seeds(scores, method, "right") for method in METHODS}
        estimates = compare(prompts, margins, rights)
        by_prompt = (
            [p.text, p.instantiation, p.seen, *(margins[m][i] for m in METHODS)]
            for i, p in enumerate(prompts)
        )
        run_directory.write_csv(
            run_dir / "prompts.csv", [["prompt", "instantiation", "seen", *METHODS], *by_prompt]
        )
        figures = ([name, e.value, e.low, e.high] for name, e in estimates.items())
        run_directory.write_csv(run_dir / "table.csv", [["figure", "value", "low", "high"], *figures])
        shown = table(estimates)
        run_directory.write_text(run_dir / "table.md", shown)
        say(shown)
        spread = [mean(scores[f"l2s/{seed}"].margin) for seed in networks]
        return {
            **{f"test/{name}": estimate.value for name, estimate in estimates.items()},
            "l2s_margin_least_of_seeds": min(spread),
            "l2s_margin_greatest_of_seeds": max(spread),
        }

    def _networks(self, stage: Stage, run_dir: Path, say: Callable[[str], None]) -> dict[int, Learned]:
        """A trained network for each seed; the chosen stage's own is the one of its seed."""
        from experiments.run import fit

        found = {}
        for seed in self.settings.seeds:
            place = stage.run_dir
            if seed != stage.config.seed:
                say(f"training the network with seed {seed}")
                place = run_dir / f"seed_{seed}"
                # What the stage learned from is named in its own resolved config, not in the chain's.
                again = configs.load(
                    stage.config.plain, {"seed": seed, "run_dir": str(place), "resume": "auto"}
                )
                fit(again)
            found[seed] = load_network(place)
        return found


def over_seeds(scores: Mapping[str, Scores], method: str, name: str) -> list[float]:
    """A score of each prompt, its mean over the seeds that a method was run with."""
    runs = [getattr(own, name) for key, own in scores.items() if key.partition("/")[0] == method]
    return [mean(values) for values in zip(*runs, strict=True)]
