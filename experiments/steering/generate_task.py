"""The stage that lets each way to steer write answers, and measures what steering costs them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments import run_directory
from experiments.steering.bench import Bench, repetition
from experiments.steering.bootstrap import Estimate, mean_interval
from experiments.steering.chain import (
    Choice,
    Learned,
    all_vectors,
    load_network,
    open_bench,
    read_choice,
    trained,
)
from experiments.steering.methods import METHODS
from experiments.steering.tasks_config import GenerateTaskConfig
from experiments.tasks import Stage

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


class GenerateTask:
    """What each way to steer writes, and what it costs: on prompts to steer and on neutral ones."""

    def __init__(self, settings: GenerateTaskConfig) -> None:
        self.settings = settings

    def check(self) -> None:
        """Nothing can be known before."""

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Write, count keywords and repetitions, and ask the unsteered model how likely the answers are."""
        bench, choice = open_bench(stages), read_choice(stages)
        stage = trained(stages)[choice.stage]
        learned = load_network(stage.run_dir)
        rows = bench.rows("test", limit=self.settings.prompts)
        prompts = bench.chosen(rows)
        topics = [prompt.topic for prompt in prompts]
        found: dict[str, Estimate | float] = {}
        texts: dict[str, list[str]] = {}
        perplexity: dict[str, float] = {}
        for method, vectors in all_vectors(bench, rows, stage, learned, METHODS).items():
            written = bench.write(
                rows, choice.plan(method, vectors), max_new_tokens=self.settings.max_new_tokens
            )
            texts[method] = [bench.model.tokenizer.decode(tokens) for tokens in written]
            ones = [bench.prompts.instantiations[prompt.instantiation] for prompt in prompts]
            named = [one.named_in(text) for one, text in zip(ones, texts[method], strict=True)]
            perplexity[method] = bench.perplexity(rows, written)
            found |= {
                f"{method}/keyword_rate": mean_interval([float(hit) for hit in named], topics),
                f"{method}/perplexity_ratio": perplexity[method] / perplexity["none"],
                f"{method}/repetition": mean_interval([repetition(tokens) for tokens in written], topics),
            }
        neutral = bench.rows("test", neutral=True, limit=self.settings.neutral)
        if self.settings.neutral and neutral:
            found |= self._neutral(bench, neutral, choice, stage, learned)
        shown_table = table(found)
        run_directory.write_text(run_dir / "table.md", shown_table)
        say(shown_table)
        count = min(self.settings.samples, len(rows))
        shown = [place * len(rows) // count for place in range(count)]
        run_directory.write_text(
            run_dir / "samples.md", samples([prompts[place].text for place in shown], shown, texts)
        )
        answers = (
            [p.text, p.instantiation, *(own[i] for own in texts.values())] for i, p in enumerate(prompts)
        )
        run_directory.write_csv(run_dir / "generations.csv", [["prompt", "instantiation", *texts], *answers])
        return {
            f"test/{name}": figure.value if isinstance(figure, Estimate) else figure
            for name, figure in found.items()
        }

    def _neutral(
        self, bench: Bench, rows: list[int], choice: Choice, stage: Stage, learned: Learned
    ) -> dict[str, Estimate]:
        found: dict[str, Estimate] = {}
        topics = [prompt.topic for prompt in bench.chosen(rows)]
        plain: list[list[int]] = []
        methods = [method for method in METHODS if method not in POINTLESS_ON_NEUTRAL]
        for method, vectors in all_vectors(bench, rows, stage, learned, methods).items():
            plan = choice.plan(method, vectors)
            written = bench.write(rows, plan, max_new_tokens=self.settings.max_new_tokens)
            plain = plain or written
            same = [float(one == other) for one, other in zip(written, plain, strict=True)]
            found[f"{method}/neutral_unchanged"] = mean_interval(same, topics)
            found[f"{method}/neutral_divergence"] = mean_interval(bench.divergence(rows, plan), topics)
        return found


def table(figures: Mapping[str, Estimate | float]) -> str:
    """What was measured of each method's answers, in Markdown; intervals draw whole topics anew."""
    lines = ["| " + " | ".join(["method", *COLUMNS.values()]) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for method, what in METHODS.items():
        cells = [figures.get(f"{method}/{column}", "–") for column in COLUMNS]
        said = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append(f"| {method}: {what} | {' | '.join(said)} |")
    return "\n".join(lines) + "\n"


def samples(prompts: Sequence[str], indices: Sequence[int], texts: Mapping[str, Sequence[str]]) -> str:
    """Answers side by side, in Markdown; the indices were fixed before anything was written."""
    shown = [method for method in ("none", "mean", "l2s", "p2s") if method in texts]
    lines = ["| " + " | ".join(["prompt", *shown]) + " |", "|---" * (len(shown) + 1) + "|"]
    for prompt, index in zip(prompts, indices, strict=True):
        cells = [f"{index}. {prompt}", *(texts[method][index] for method in shown)]
        # A line end or a bar would end the row or the cell.
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
