"""The stage that lets each way to steer write answers, and measures what steering costs them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datamodules.prompts.prompt_sets import Prompt
from experiments.config.root import Config
from experiments.config.steering_tasks import GenerateTaskConfig
from experiments.steering.bench import Bench, Plan, Written, repetition
from experiments.steering.bootstrap import Estimate, mean_interval
from experiments.steering.chain import (
    check_chain,
    open_bench,
    read_choice,
    trained,
)
from experiments.steering.methods import METHODS
from experiments.steering.plans import all_plans, compared_networks, over_seeds
from experiments.studies.tasks import Stage
from experiments.training import run_directory

COLUMNS = {
    "keyword_rate": "keyword rate",
    "perplexity_ratio": "perplexity, × unsteered",
    "repetition": "3-gram repetition",
    "neutral_unchanged": "neutral unchanged",
    "neutral_divergence": "neutral KL, nats",
}
"""Of the table, by the figure's name."""
POINTLESS_ON_NEUTRAL = ("l2s_shuffled", "instantiation_mean", "p2s")
"""There the oracles' vectors are nothing, and shuffling shuffles nothing."""

FEW = 4
"""Instantiations that there may be for the table to tell their keyword rates apart."""


class GenerateTask:
    """What each way to steer writes, and what it costs: on prompts to steer and on neutral ones."""

    def __init__(self, settings: GenerateTaskConfig) -> None:
        self.settings = settings

    def check(self, earlier: Mapping[str, Config]) -> None:
        """See `check_chain`."""
        check_chain(earlier, chosen=True)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Write, with the network of every seed that was compared; count keywords and repetitions.

        The unsteered model is asked how likely the answers are. Controls that are drawn are drawn once.
        """
        bench, choice = open_bench(stages), read_choice(stages)
        choice = choice if self.settings.alpha is None else choice.with_alpha(self.settings.alpha)
        stage = trained(stages)[choice.stage]
        networks = compared_networks(stage, stages)
        rows = bench.rows("test", limit=self.settings.prompts)
        prompts = bench.chosen(rows)
        plans = all_plans(bench, rows, stage, choice, networks, of_a_seed=("l2s",))
        say(f"{len(rows)} test prompts, {len(plans)} ways to answer each")
        written = bench.write(rows, plans, max_new_tokens=self.settings.max_new_tokens)
        texts = {
            key: [bench.model.tokenizer.decode(tokens) for tokens in own.tokens]
            for key, own in written.items()
        }
        ones = [bench.prompts.instantiations[prompt.instantiation] for prompt in prompts]
        named = {
            key: [float(one.named_in(text)) for one, text in zip(ones, own, strict=True)]
            for key, own in texts.items()
        }
        found = figures(prompts, written, named)
        neutral = bench.rows("test", neutral=True, limit=self.settings.neutral)
        if self.settings.neutral and neutral:
            methods = [method for method in METHODS if method not in POINTLESS_ON_NEUTRAL]
            found |= self._neutral(
                bench,
                neutral,
                all_plans(bench, neutral, stage, choice, networks, methods, of_a_seed=("l2s",)),
            )
        shown = table(found)
        run_directory.write_text(run_dir / "table.md", shown)
        say(shown)
        leave(run_dir, prompts, texts, seed=min(networks), count=min(self.settings.samples, len(rows)))
        return {f"test/{name}": figure.value for name, figure in found.items()}

    def _neutral(self, bench: Bench, rows: list[int], plans: Mapping[str, Plan]) -> dict[str, Estimate]:
        topics = [prompt.topic for prompt in bench.chosen(rows)]
        written = bench.write(rows, plans, max_new_tokens=self.settings.max_new_tokens)
        (plain,) = (own.tokens for key, own in written.items() if key.startswith("none/"))
        same = {
            key: [float(one == other) for one, other in zip(own.tokens, plain, strict=True)]
            for key, own in written.items()
        }
        apart = bench.divergence(rows, plans)
        found: dict[str, Estimate] = {}
        for method in dict.fromkeys(key.partition("/")[0] for key in plans):
            found[f"{method}/neutral_unchanged"] = mean_interval(over_seeds(same, method), topics)
            found[f"{method}/neutral_divergence"] = mean_interval(over_seeds(apart, method), topics)
        return found


def figures(
    prompts: Sequence[Prompt], written: Mapping[str, Written], named: Mapping[str, Sequence[float]]
) -> dict[str, Estimate]:
    """What was measured of each method's answers.

    Args:
        prompts: That were answered.
        written: Of each `METHOD/SEED`.
        named: The same; 1 where an answer names what it should.

    Returns:
        `METHOD/keyword_rate`, also with `/INSTANTIATION`, `METHOD/perplexity_ratio` and
        `METHOD/repetition`, and `METHOD/empty`, the share of answers without a token. The ratio is of
        geometric means over the prompts that were answered without steering and with every seed.
    """
    topics = [prompt.topic for prompt in prompts]
    repeated = {key: [repetition(tokens) for tokens in own.tokens] for key, own in written.items()}
    likely = {key: own.unsteered for key, own in written.items()}
    plain = over_seeds(likely, "none")
    found: dict[str, Estimate] = {}
    for method in METHODS:
        less = [a - b for a, b in zip(plain, over_seeds(likely, method), strict=True)]
        both = [i for i, value in enumerate(less) if not math.isnan(value)]
        silent = {key: [float(not tokens) for tokens in own.tokens] for key, own in written.items()}
        found[f"{method}/empty"] = mean_interval(over_seeds(silent, method), topics)
        hits = over_seeds(named, method)
        found[f"{method}/keyword_rate"] = mean_interval(hits, topics)
        for name in sorted({prompt.instantiation for prompt in prompts}):
            own = [i for i, prompt in enumerate(prompts) if prompt.instantiation == name]
            found[f"{method}/keyword_rate/{name}"] = mean_interval(
                [hits[i] for i in own], [topics[i] for i in own]
            )
        if both:
            log_ratio = mean_interval([less[i] for i in both], [topics[i] for i in both])
            found[f"{method}/perplexity_ratio"] = Estimate(
                math.exp(log_ratio.value), math.exp(log_ratio.low), math.exp(log_ratio.high)
            )
        found[f"{method}/repetition"] = mean_interval(over_seeds(repeated, method), topics)
    return found


def table(found: Mapping[str, Estimate]) -> str:
    """What was measured of each method's answers, in Markdown; intervals draw whole topics anew.

    Where there are only a few instantiations, each one's keyword rate has a column.
    """
    ones = sorted({name.split("/")[2] for name in found if "/keyword_rate/" in name})
    columns = COLUMNS | {f"keyword_rate/{name}": f"keyword rate, {name}" for name in ones if len(ones) <= FEW}
    lines = ["| " + " | ".join(["method", *columns.values()]) + " |", "|---" * (len(columns) + 1) + "|"]
    for method, what in METHODS.items():
        cells = [str(found.get(f"{method}/{column}", "–")) for column in columns]
        lines.append(f"| {method}: {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def leave(
    run_dir: Path, prompts: Sequence[Prompt], texts: Mapping[str, Sequence[str]], *, seed: int, count: int
) -> None:
    """Write all answers to `generations.csv`, and some side by side to `samples.md`.

    Args:
        run_dir: Where to.
        prompts: That were answered.
        texts: The answers of each `METHOD/SEED`.
        seed: Whose answers are shown.
        count: How many prompts are shown, evenly spaced.
    """
    shown = [place * len(prompts) // count for place in range(count)]
    first = {method: texts[f"{method}/{seed}"] for method in METHODS}
    page = samples([prompts[place].text for place in shown], shown, first)
    run_directory.write_text(run_dir / "samples.md", page)
    answers = ([p.text, p.instantiation, *(own[i] for own in texts.values())] for i, p in enumerate(prompts))
    run_directory.write_csv(run_dir / "generations.csv", [["prompt", "instantiation", *texts], *answers])


def samples(prompts: Sequence[str], indices: Sequence[int], texts: Mapping[str, Sequence[str]]) -> str:
    """Answers side by side, in Markdown; the indices were fixed before anything was written."""
    shown = [method for method in ("none", "mean", "l2s", "p2s") if method in texts]
    lines = ["| " + " | ".join(["prompt", *shown]) + " |", "|---" * (len(shown) + 1) + "|"]
    for prompt, index in zip(prompts, indices, strict=True):
        cells = [f"{index}. {prompt}", *(texts[method][index] for method in shown)]
        # A line end or a bar would end the row or the cell.
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
