"""The stage that asks every way to steer the same held-out prompts, and scores held-out answers."""

from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.config.steering_tasks import CompareTaskConfig
from experiments.steering.bench import mean
from experiments.steering.chain import (
    Learned,
    check_chain,
    load_network,
    open_bench,
    read_choice,
    trained,
)
from experiments.steering.comparison import compare, table
from experiments.steering.methods import METHODS
from experiments.steering.plans import all_plans, network_dir, over_seeds
from experiments.studies.tasks import Stage
from experiments.training import run_directory
from experiments.training.fit import fit


class CompareTask:
    """The comparison that decides: every way to steer on the same held-out prompts, by held-out answers."""

    def __init__(self, settings: CompareTaskConfig) -> None:
        self.settings = settings

    def check(self, earlier: Mapping[str, Config]) -> None:
        """See `check_chain`."""
        check_chain(earlier, chosen=True)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Score all methods; the learned ones with a network for each seed."""
        bench, choice = open_bench(stages), read_choice(stages)
        stage = trained(stages)[choice.stage]
        networks = self._networks(stage, run_dir, say)
        half = self.settings.prompts // 2
        rows = [row for seen in (True, False) for row in bench.rows("test", seen=seen, limit=half)]
        plans = all_plans(bench, rows, stage, choice, networks)
        say(f"{len(rows)} test prompts, {len(plans)} ways to answer each")
        scores = bench.score(rows, plans, rank=True)
        prompts = bench.chosen(rows)
        by_seed = {key: own.margin for key, own in scores.items()}
        margins = {method: over_seeds(by_seed, method) for method in METHODS}
        ranks = {key: own.right for key, own in scores.items()}
        rights = {method: over_seeds(ranks, method) for method in METHODS}
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
        found = {}
        for seed in self.settings.seeds:
            place = network_dir(stage, run_dir, seed)
            if place != stage.run_dir:
                say(f"training the network with seed {seed}")
                # What the stage learned from is named in its own resolved config, not in the chain's.
                again = load_config(
                    stage.config.plain, {"seed": seed, "run_dir": str(place), "resume": "auto"}
                )
                fit(again)
            found[seed] = load_network(place)
        return found
