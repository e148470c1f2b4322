"""The stage that generates answers with every method and measures the cost of steering."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from datamodules.prompts.prompt_sets import Prompt
from experiments.config.root import Config
from experiments.config.steering_tasks import GenerateTaskConfig
from experiments.steering.bootstrap import Estimate, mean_interval
from experiments.steering.chain import (
    Choice,
    adapter_dir,
    check_chain,
    compared_networks,
    open_evaluator,
    read_choice,
    trained,
)
from experiments.steering.evaluator import Answers, Evaluator, Plan
from experiments.steering.measures import log_perplexity_ratios, repetition
from experiments.steering.methods import METHODS
from experiments.steering.plans import all_plans, over_seeds
from experiments.studies.tasks import Stage, Task
from experiments.training import run_directory

COLUMNS = {
    "keyword_rate": "keyword rate",
    "perplexity_ratio": "perplexity, × unsteered",
    "repetition": "3-gram repetition",
    "neutral_unchanged": "neutral unchanged",
    "neutral_divergence": "neutral KL, nats",
}
"""Head of each column of the table, by name of the figure."""
POINTLESS_ON_NEUTRAL = ("l2s_shuffled", "instantiation_mean", "p2s")
"""Methods that are not used on neutral prompts: their vectors are zero or belong to other neutral prompts."""
MOST_COLUMNS = 4
"""Largest number of instantiations for which the table has columns."""


class GenerateTask(Task):
    """Generate answers with every method, to prompts to steer and to neutral prompts."""

    settings: GenerateTaskConfig

    def check(self, earlier: Mapping[str, Config]) -> None:
        """Check the earlier stages; see `check_chain`."""
        check_chain(earlier, chosen=True)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Generate answers and write the tables.

        The learned network is used with every seed of the comparing stage, the random controls with one seed.
        """
        evaluator, choice = open_evaluator(stages), self._choice(stages)
        stage = trained(stages)[choice.stage]
        networks, adapter = compared_networks(stage, stages), adapter_dir(choice, stages)

        def plans(rows: Sequence[int], methods: Sequence[str]) -> dict[str, Plan]:
            return all_plans(
                evaluator, rows, stage, choice, networks, methods, adapter=adapter, seeded=("l2s",)
            )

        rows = evaluator.rows("test", limit=self.settings.prompts)
        prompts, ways = evaluator.chosen(rows), plans(rows, choice.methods)
        say(f"{len(rows)} test prompts, {len(ways)} ways to answer each")
        written = evaluator.write(rows, ways, max_new_tokens=self.settings.max_new_tokens)
        texts = {
            key: [evaluator.model.tokenizer.decode(tokens) for tokens in own.tokens]
            for key, own in written.items()
        }
        ones = [evaluator.prompts.instantiations[prompt.instantiation] for prompt in prompts]
        named = {
            key: [float(one.named_in(text)) for one, text in zip(ones, own, strict=True)]
            for key, own in texts.items()
        }
        found = figures(prompts, written, named)
        neutral = evaluator.rows("test", neutral=True, limit=self.settings.neutral)
        if self.settings.neutral and neutral:
            methods = [method for method in choice.methods if method not in POINTLESS_ON_NEUTRAL]
            found |= self._neutral(evaluator, neutral, plans(neutral, methods))
        run_directory.write_text(run_dir / "table.md", table(found))
        say(table(found))
        count = min(self.settings.samples, len(rows))
        write_answers(run_dir, prompts, texts, seed=min(networks), count=count)
        return {f"test/{name}": figure.value for name, figure in found.items()}

    def _choice(self, stages: Mapping[str, Stage]) -> Choice:
        choice = read_choice(stages)
        return choice if self.settings.alpha is None else choice.with_alpha(self.settings.alpha)

    def _neutral(
        self, evaluator: Evaluator, rows: Sequence[int], plans: Mapping[str, Plan]
    ) -> dict[str, Estimate]:
        """Measure how much each method changes the answers to neutral prompts."""
        topics = [prompt.topic for prompt in evaluator.chosen(rows)]
        written = evaluator.write(rows, plans, max_new_tokens=self.settings.max_new_tokens)
        (plain,) = (own.tokens for key, own in written.items() if key.startswith("none/"))
        same = {
            key: [float(one == other) for one, other in zip(own.tokens, plain, strict=True)]
            for key, own in written.items()
        }
        apart = evaluator.divergence(rows, plans)
        found: dict[str, Estimate] = {}
        for method in methods_of(plans):
            found[f"{method}/neutral_unchanged"] = mean_interval(over_seeds(same, method), topics)
            found[f"{method}/neutral_divergence"] = mean_interval(over_seeds(apart, method), topics)
        return found


def figures(
    prompts: Sequence[Prompt], written: Mapping[str, Answers], named: Mapping[str, Sequence[float]]
) -> dict[str, Estimate]:
    """Estimate the figures of each method's answers.

    Args:
        prompts: The answered prompts.
        written: The answers of each `METHOD/SEED`.
        named: For each `METHOD/SEED` and prompt, 1 if the answer contains a keyword of the instantiation.

    Returns:
        `METHOD/keyword_rate`, `METHOD/keyword_rate/INSTANTIATION`, `METHOD/perplexity_ratio`,
        `METHOD/repetition`, and `METHOD/empty`, the share of empty answers. The perplexity ratio uses the
        prompts with an unsteered answer and an answer for every seed.
    """
    topics = [prompt.topic for prompt in prompts]
    repeated = {key: [repetition(tokens) for tokens in own.tokens] for key, own in written.items()}
    empty = {key: [float(not tokens) for tokens in own.tokens] for key, own in written.items()}
    likely = {key: own.log_probability for key, own in written.items()}
    plain = over_seeds(likely, "none")
    found: dict[str, Estimate] = {}
    for method in methods_of(written):
        found[f"{method}/empty"] = mean_interval(over_seeds(empty, method), topics)
        hits = over_seeds(named, method)
        found[f"{method}/keyword_rate"] = mean_interval(hits, topics)
        for name in sorted({prompt.instantiation for prompt in prompts}):
            own = [i for i, prompt in enumerate(prompts) if prompt.instantiation == name]
            found[f"{method}/keyword_rate/{name}"] = mean_interval(
                [hits[i] for i in own], [topics[i] for i in own]
            )
        ratios = log_perplexity_ratios(over_seeds(likely, method), plain)
        if ratios:
            log = mean_interval(list(ratios.values()), [topics[i] for i in ratios])
            found[f"{method}/perplexity_ratio"] = Estimate(
                math.exp(log.value), math.exp(log.low), math.exp(log.high)
            )
        found[f"{method}/repetition"] = mean_interval(over_seeds(repeated, method), topics)
    return found


def methods_of(keys: Iterable[str]) -> list[str]:
    """Return the methods of `METHOD/…` keys, each once, in their order."""
    return list(dict.fromkeys(key.partition("/")[0] for key in keys))


def table(found: Mapping[str, Estimate]) -> str:
    """Format the figures as a Markdown table with a row for each method.

    If there are only a few instantiations, the keyword rate of each has a column.
    """
    ones = sorted({name.split("/")[2] for name in found if "/keyword_rate/" in name})
    columns = dict(COLUMNS)
    if len(ones) <= MOST_COLUMNS:
        columns |= {f"keyword_rate/{name}": f"keyword rate, {name}" for name in ones}
    lines = ["| " + " | ".join(["method", *columns.values()]) + " |", "|---" * (len(columns) + 1) + "|"]
    for method in methods_of(found):
        cells = [str(found.get(f"{method}/{column}", "–")) for column in columns]
        lines.append(f"| {method}: {METHODS[method]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_answers(
    run_dir: Path, prompts: Sequence[Prompt], texts: Mapping[str, Sequence[str]], *, seed: int, count: int
) -> None:
    """Write all answers to `generations.csv`, and some of them side by side to `samples.md`.

    `samples.md` has `count` prompts, evenly spaced, with the answers of one seed.
    """
    shown = [place * len(prompts) // count for place in range(count)]
    first = {method: texts[f"{method}/{seed}"] for method in methods_of(texts)}
    page = samples([prompts[place].text for place in shown], shown, first)
    run_directory.write_text(run_dir / "samples.md", page)
    answers = ([p.text, p.instantiation, *(own[i] for own in texts.values())] for i, p in enumerate(prompts))
    run_directory.write_csv(run_dir / "generations.csv", [["prompt", "instantiation", *texts], *answers])


def samples(prompts: Sequence[str], indices: Sequence[int], texts: Mapping[str, Sequence[str]]) -> str:
    """Format the answers at these indices side by side as a Markdown table."""
    shown = [method for method in ("none", "mean", "l2s", "lora", "p2s") if method in texts]
    lines = ["| " + " | ".join(["prompt", *shown]) + " |", "|---" * (len(shown) + 1) + "|"]
    for prompt, index in zip(prompts, indices, strict=True):
        cells = [f"{index}. {prompt}", *(texts[method][index] for method in shown)]
        # A newline would end the row, and a bar the cell.
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
