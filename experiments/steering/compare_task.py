"""The stage that compares all methods on the same test prompts, by the probability of held-out answers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datamodules.prompts.prompt_sets import Prompt
from experiments.config.root import Config
from experiments.config.steering_tasks import CompareTaskConfig
from experiments.steering.bootstrap import Estimate
from experiments.steering.chain import (
    adapter_dir,
    check_chain,
    open_evaluator,
    read_choice,
    trained,
)
from experiments.steering.intervals import estimate_all, table
from experiments.steering.measures import mean
from experiments.steering.plans import all_plans, over_seeds
from experiments.steering.seeds import networks_of
from experiments.studies.tasks import Stage, Task
from experiments.training import run_directory


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
        networks = networks_of(stage, self.settings.seeds, run_dir, say)
        half = self.settings.prompts // 2
        rows = [row for seen in (True, False) for row in evaluator.rows("test", seen=seen, limit=half)]
        adapter = adapter_dir(choice, stages)
        plans = all_plans(evaluator, rows, stage, choice, networks, choice.methods, adapter=adapter)
        say(f"{len(rows)} test prompts, {len(plans)} ways to answer each")
        scores = evaluator.score(rows, plans, rank=True)
        by_seed = {key: own.margin for key, own in scores.items()}
        ranks = {key: own.right for key, own in scores.items()}
        margins = {method: over_seeds(by_seed, method) for method in choice.methods}
        rights = {method: over_seeds(ranks, method) for method in choice.methods}
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


def write_tables(
    run_dir: Path,
    prompts: Sequence[Prompt],
    margins: Mapping[str, Sequence[float]],
    estimates: Mapping[str, Estimate],
) -> None:
    """Write the margins of each prompt to `prompts.csv`, and the estimates to `table.csv` and `table.md`."""
    by_prompt = (
        [p.text, p.instantiation, p.seen, *(own[i] for own in margins.values())]
        for i, p in enumerate(prompts)
    )
    head = ["prompt", "instantiation", "seen", *margins]
    run_directory.write_csv(run_dir / "prompts.csv", [head, *by_prompt])
    figures = ([name, e.value, e.low, e.high] for name, e in estimates.items())
    run_directory.write_csv(run_dir / "table.csv", [["figure", "value", "low", "high"], *figures])
    run_directory.write_text(run_dir / "table.md", table(estimates))
