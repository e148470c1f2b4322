"""The stage that compares all methods on the same test prompts, by the probability of held-out answers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datamodules.prompts.prompt_sets import Prompt
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.config.steering_tasks import CompareTaskConfig
from experiments.steering.bootstrap import Estimate
from experiments.steering.chain import (
    check_chain,
    load_network,
    network_dir,
    open_evaluator,
    read_choice,
    trained,
)
from experiments.steering.intervals import estimate_all, table
from experiments.steering.measures import mean
from experiments.steering.methods import METHODS, Learned
from experiments.steering.plans import all_plans, over_seeds
from experiments.studies.tasks import Stage, Task
from experiments.training import run_directory
from experiments.training.fit import fit


class CompareTask(Task):
    """Score every method on the test prompts; a seeded method is scored with one network for each seed."""

    settings: CompareTaskConfig

    def check(self, earlier: Mapping[str, Config]) -> None:
        """Check the earlier stages; see `check_chain`."""
        check_chain(earlier, chosen=True)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Score all methods and write the tables."""
        evaluator, choice = open_evaluator(stages), read_choice(stages)
        stage = trained(stages)[choice.stage]
        networks = self._networks(stage, run_dir, say)
        half = self.settings.prompts // 2
        rows = [row for seen in (True, False) for row in evaluator.rows("test", seen=seen, limit=half)]
        plans = all_plans(evaluator, rows, stage, choice, networks)
        say(f"{len(rows)} test prompts, {len(plans)} ways to answer each")
        scores = evaluator.score(rows, plans, rank=True)
        by_seed = {key: own.margin for key, own in scores.items()}
        ranks = {key: own.right for key, own in scores.items()}
        margins = {method: over_seeds(by_seed, method) for method in METHODS}
        rights = {method: over_seeds(ranks, method) for method in METHODS}
        prompts = evaluator.chosen(rows)
        estimates = estimate_all(prompts, margins, rights)
        write_tables(run_dir, prompts, margins, estimates)
        say(table(estimates))
        spread = [mean(by_seed[f"l2s/{seed}"]) for seed in networks]
        return {
            **{f"test/{name}": estimate.value for name, estimate in estimates.items()},
            "l2s_margin_least_of_seeds": min(spread),
            "l2s_margin_greatest_of_seeds": max(spread),
        }

    def _networks(self, stage: Stage, run_dir: Path, say: Callable[[str], None]) -> dict[int, Learned]:
        """Return a trained network for each seed; the stage itself trained the one with its own seed."""
        found = {}
        for seed in self.settings.seeds:
            place = network_dir(stage, run_dir, seed)
            if place != stage.run_dir:
                say(f"training the network with seed {seed}")
                # The resolved config of the stage names the file of hidden states; the chain's does not.
                again = load_config(
                    stage.config.plain, {"seed": seed, "run_dir": str(place), "resume": "auto"}
                )
                fit(again)
            found[seed] = load_network(place)
        return found


def write_tables(
    run_dir: Path,
    prompts: Sequence[Prompt],
    margins: Mapping[str, Sequence[float]],
    estimates: Mapping[str, Estimate],
) -> None:
    """Write the margins of each prompt to `prompts.csv`, and the estimates to `table.csv` and `table.md`."""
    by_prompt = (
        [p.text, p.instantiation, p.seen, *(margins[m][i] for m in METHODS)] for i, p in enumerate(prompts)
    )
    head = ["prompt", "instantiation", "seen", *METHODS]
    run_directory.write_csv(run_dir / "prompts.csv", [head, *by_prompt])
    figures = ([name, e.value, e.low, e.high] for name, e in estimates.items())
    run_directory.write_csv(run_dir / "table.csv", [["figure", "value", "low", "high"], *figures])
    run_directory.write_text(run_dir / "table.md", table(estimates))
