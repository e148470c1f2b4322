"""The stages of a steering chain that train nothing: extract, choose, test, generate."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from experiments import config as configs
from experiments import run_directory
from experiments.extract import extract, open_prompt_set
from experiments.language_models import open_language_model
from experiments.steering import pictures
from experiments.steering.bench import Bench, Plan, Scores, repetition
from experiments.steering.bootstrap import Estimate, mean_interval, ratio_interval
from experiments.steering.chain import (
    CHOICE,
    Choice,
    open_bench,
    precision_of,
    read_choice,
    trained,
)
from experiments.steering.methods import METHODS, steering_vectors
from experiments.steering.tasks_config import (
    ChooseTaskConfig,
    ExtractTaskConfig,
    GenerateTaskConfig,
    TestTaskConfig,
)
from experiments.tasks import STATES, Stage

Learned = Callable[[Tensor], Tensor]
Metrics = dict[str, float]
WITHOUT_FACTOR = ("none", "prompting")
RIVALS = ("mean", "router", "l2s_shuffled", "ridge")
"""What the learned network is held against, prompt by prompt."""


class ExtractTask:
    """Makes the file of hidden states that later stages learn from and are measured with."""

    def __init__(self, settings: ExtractTaskConfig) -> None:
        self.settings = settings

    def check(self) -> None:
        """Read the prompts, so that a wrong line is found before anything is run."""
        open_prompt_set(self.settings.prompts)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> Metrics:
        """Extract, or find the file of a run that was cut."""
        settings = self.settings
        model = open_language_model(settings.language_model, precision_of(settings), laid_out=False)
        prompts = open_prompt_set(settings.prompts)

        def show(done: int, count: int) -> None:
            if done == count or done // settings.batch_size % 20 == 0:
                say(f"{done} of {count} prompts")

        extract(
            model,
            prompts,
            run_dir / STATES,
            layers=settings.layers,
            template=settings.template,
            position=settings.position,
            answers=settings.answers,
            batch_size=settings.batch_size,
            show=show,
        )
        return {"prompts": float(len(prompts.prompts)), "layers": float(len(settings.layers))}


class ChooseTask:
    """Scores each trained network on validation prompts; picks one, and each method's factor."""

    def __init__(self, settings: ChooseTaskConfig) -> None:
        self.settings = settings

    def check(self) -> None:
        """Nothing can be known before."""

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> Metrics:
        """Networks by the margin of log-probabilities, then factors by that of the wanted answers alone.

        The margin grows with the factor until answers break; the wanted answers' own probability doesn't.
        """
        bench, networks = open_bench(stages), trained(stages)
        rows = bench.rows("validation", limit=self.settings.prompts)
        shown = ("none", "mean", "ridge", "l2s", "p2s")
        plans: dict[str, Plan] = {}
        for name, stage in networks.items():
            vectors = all_vectors(bench, rows, stage, load(stage.run_dir), shown)
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
            vectors = all_vectors(bench, rows, stage, load(stage.run_dir), methods)
            plans = {
                (method, alpha): Plan(layer=target_layer(stage), vectors=v, alpha=alpha)
                for method, v in vectors.items()
                for alpha in self.settings.alphas
            }
            scores = bench.score(rows, {f"{m} {a}": plan for (m, a), plan in plans.items()})
            found[name] = {m: {a: scores[f"{m} {a}"] for a in self.settings.alphas} for m in methods}
        return found


class TestTask:
    """The comparison that decides: every way to steer on the same held-out prompts, by held-out answers."""

    __test__ = False  # not one of pytest's

    def __init__(self, settings: TestTaskConfig) -> None:
        self.settings = settings

    def check(self) -> None:
        """Nothing can be known before."""

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> Metrics:
        """Score all methods; the learned ones with a network for each seed."""
        bench, choice = open_bench(stages), read_choice(stages)
        networks = self._networks(trained(stages)[choice.stage], run_dir, say)
        half = self.settings.prompts // 2
        rows = [row for seen in (True, False) for row in bench.rows("test", seen=seen, limit=half)]
        plans: dict[str, Plan] = {}
        for seed, (stage, learned) in networks.items():
            methods = METHODS if seed == min(networks) else ("random", "l2s", "l2s_shuffled")
            for method, vectors in all_vectors(bench, rows, stage, learned, methods, seed=seed).items():
                plans[f"{method}/{seed}"] = Plan(
                    layer=choice.target_layer,
                    vectors=vectors,
                    alpha=0.0 if method in WITHOUT_FACTOR else choice.alphas[method],
                    instruction=self.settings.instruction if method == "prompting" else "",
                )
        say(f"{len(rows)} test prompts, {len(plans)} ways to answer each")
        scores = bench.score(rows, plans, rank=True)
        prompts = bench.chosen(rows)
        subsets = {
            "all": list(range(len(rows))),
            "seen": [i for i, prompt in enumerate(prompts) if prompt.seen],
            "unseen": [i for i, prompt in enumerate(prompts) if not prompt.seen],
        }
        margins = {m: over_seeds(scores, m, "margin") for m in METHODS}
        rights = {m: over_seeds(scores, m, "right") for m in METHODS}
        topics = [prompt.topic for prompt in prompts]
        estimates: dict[str, Estimate] = {}
        for subset, places in subsets.items():
            if not places:
                continue

            def of(values: Sequence[float], places: list[int] = places) -> list[float]:
                return [values[i] for i in places]

            names = of(topics)  # type: ignore[arg-type]
            for method in METHODS:
                estimates[f"{subset}/{method}/margin"] = mean_interval(of(margins[method]), names)
                known = [i for i in places if not math.isnan(rights[method][i])]
                if known:
                    estimates[f"{subset}/{method}/right"] = mean_interval(
                        [rights[method][i] for i in known], [topics[i] for i in known]
                    )
            for rival in RIVALS:
                estimates[f"{subset}/l2s_minus_{rival}"] = mean_interval(
                    of(differences(margins["l2s"], margins[rival])), names
                )
            estimates[f"{subset}/gap_closed"] = ratio_interval(
                of(differences(margins["l2s"], margins["mean"])),
                of(differences(margins["p2s"], margins["mean"])),
                names,
            )
        rows_of_prompts = (
            [p.text, p.instantiation, p.seen, *(margins[m][i] for m in METHODS)]
            for i, p in enumerate(prompts)
        )
        run_directory.write_csv(
            run_dir / "prompts.csv", [["prompt", "instantiation", "seen", *METHODS], *rows_of_prompts]
        )
        figures = ([name, e.value, e.low, e.high] for name, e in estimates.items())
        run_directory.write_csv(run_dir / "table.csv", [["figure", "value", "low", "high"], *figures])
        run_directory.write_text(run_dir / "table.md", table(estimates))
        say(table(estimates))
        spread = [mean(scores[f"l2s/{seed}"].margin) for seed in networks]
        return {
            **{f"test/{name}": estimate.value for name, estimate in estimates.items()},
            "l2s_margin_least_of_seeds": min(spread),
            "l2s_margin_greatest_of_seeds": max(spread),
        }

    def _networks(
        self, stage: Stage, run_dir: Path, say: Callable[[str], None]
    ) -> dict[int, tuple[Stage, Learned]]:
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
            found[seed] = (stage, load(place))
        return found


class GenerateTask:
    """What each way to steer writes, and what it costs: on prompts to steer and on neutral ones."""

    def __init__(self, settings: GenerateTaskConfig) -> None:
        self.settings = settings

    def check(self) -> None:
        """Nothing can be known before."""

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> Metrics:
        """Write, count keywords and repetitions, and ask the unsteered model how likely the answers are."""
        bench, choice = open_bench(stages), read_choice(stages)
        stage = trained(stages)[choice.stage]
        learned = load(stage.run_dir)
        rows = bench.rows("test", limit=self.settings.prompts)
        prompts = bench.chosen(rows)
        metrics: Metrics = {}
        texts: dict[str, list[str]] = {}
        surprise: dict[str, float] = {}
        methods = [method for method in METHODS if method != "prompting"]
        for method, vectors in all_vectors(bench, rows, stage, learned, methods).items():
            plan = self._plan(choice, method, vectors)
            written = bench.write(rows, plan, max_new_tokens=self.settings.max_new_tokens)
            texts[method] = [bench.model.tokenizer.decode(tokens) for tokens in written]
            ones = [bench.prompts.instantiations[prompt.instantiation] for prompt in prompts]
            named = [one.named_in(text) for one, text in zip(ones, texts[method], strict=True)]
            known = [value for value in bench.surprise(rows, written) if not math.isnan(value)]
            surprise[method] = mean(known)
            metrics |= {
                f"test/{method}/keyword_rate": mean([float(hit) for hit in named]),
                f"test/{method}/perplexity_ratio": math.exp(surprise[method] - surprise["none"]),
                f"test/{method}/repetition": mean([repetition(tokens) for tokens in written]),
            }
        neutral = bench.rows("test", neutral=True, limit=self.settings.neutral)
        if self.settings.neutral and neutral:
            metrics |= self._neutral(bench, neutral, choice, stage, learned)
        for name, value in metrics.items():
            say(f"{name}: {value:.3f}")
        count = min(self.settings.samples, len(rows))
        shown = [place * len(rows) // count for place in range(count)]
        run_directory.write_text(
            run_dir / "samples.md", samples([prompts[place].text for place in shown], shown, texts)
        )
        answers = (
            [p.text, p.instantiation, *(own[i] for own in texts.values())] for i, p in enumerate(prompts)
        )
        run_directory.write_csv(run_dir / "generations.csv", [["prompt", "instantiation", *texts], *answers])
        return metrics

    def _neutral(
        self, bench: Bench, rows: list[int], choice: Choice, stage: Stage, learned: Learned
    ) -> Metrics:
        found: Metrics = {}
        plain: list[list[int]] = []
        for method, vectors in all_vectors(
            bench, rows, stage, learned, ("none", "mean", "router", "ridge", "l2s")
        ).items():
            plan = self._plan(choice, method, vectors)
            written = bench.write(rows, plan, max_new_tokens=self.settings.max_new_tokens)
            plain = plain or written
            same = [float(one == other) for one, other in zip(written, plain, strict=True)]
            found[f"test/{method}/neutral_unchanged"] = mean(same)
            found[f"test/{method}/neutral_divergence"] = mean(bench.divergence(rows, plan))
        return found

    def _plan(self, choice: Choice, method: str, vectors: Tensor) -> Plan:
        alpha = 0.0 if method in WITHOUT_FACTOR else choice.alphas[method]
        return Plan(layer=choice.target_layer, vectors=vectors, alpha=alpha)


def all_vectors(
    bench: Bench,
    rows: Sequence[int],
    stage: Stage,
    learned: Learned,
    methods: Sequence[str] | Mapping[str, str],
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Each method's vectors for the prompts asked, from the training prompts at a stage's layers."""
    layers = {"input_layer": input_layer(stage), "target_layer": target_layer(stage)}
    places = [*bench.rows("train"), *bench.rows("train", neutral=True)]
    train, asked = bench.pairs(places, **layers), bench.pairs(rows, **layers)
    return {method: steering_vectors(method, train, asked, learned=learned, seed=seed) for method in methods}


def load(run_dir: Path) -> Learned:
    """A run's best network, from hidden states (M, W) to vectors (M, W)."""
    from experiments import checkpoint
    from experiments.build import restore

    path = run_dir / "checkpoints" / "best.ckpt"
    module = restore(checkpoint.load(path), path).module

    @torch.inference_mode()
    def learned(states: Tensor) -> Tensor:
        return module(states)

    return learned


def input_layer(stage: Stage) -> int:
    """Whose hidden states a stage's network learned from."""
    return int(stage.config.data.config.input_layer)


def target_layer(stage: Stage) -> int:
    """Which layer a stage's network steers."""
    return int(stage.config.data.config.target_layer)


def over_seeds(scores: Mapping[str, Scores], method: str, name: str) -> list[float]:
    """A score of each prompt, its mean over the seeds that a method was run with."""
    runs = [getattr(own, name) for key, own in scores.items() if key.partition("/")[0] == method]
    return [mean(values) for values in zip(*runs, strict=True)]


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Prompt by prompt."""
    return [a - b for a, b in zip(first, second, strict=True)]


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)


def table(estimates: Mapping[str, Estimate]) -> str:
    """The comparison in Markdown: a row a method, then what decides."""
    subsets = [s for s in ("all", "seen", "unseen") if f"{s}/l2s/margin" in estimates]
    heads = ["method", *(f"margin, {s} templates" if s != "all" else "margin" for s in subsets)]
    lines = ["| " + " | ".join([*heads, "right instantiation"]) + " |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    for method, what in METHODS.items():
        cells = [str(estimates[f"{s}/{method}/margin"]) for s in subsets]
        right = estimates.get(f"all/{method}/right")
        lines.append(f"| {method}: {what} | {' | '.join(cells)} | {right or '–'} |")
    lines.append("")
    for subset in subsets:
        for rival in RIVALS:
            lines.append(f"- {subset}: l2s − {rival}: {estimates[f'{subset}/l2s_minus_{rival}']}")
        lines.append(
            f"- {subset}: gap closed, (l2s − mean)/(p2s − mean): {estimates[f'{subset}/gap_closed']}"
        )
    return "\n".join(lines) + "\n"


def samples(prompts: Sequence[str], indices: Sequence[int], texts: Mapping[str, Sequence[str]]) -> str:
    """Answers side by side, in Markdown; the indices were fixed before anything was written."""
    shown = [method for method in ("none", "mean", "l2s", "p2s") if method in texts]
    parts = []
    for prompt, index in zip(prompts, indices, strict=True):
        parts.append(f"**{index}. {prompt}**\n")
        parts += [f"- {method}: {' '.join(texts[method][index].split())}" for method in shown]
        parts.append("")
    return "\n".join(parts)
