"""A frozen model with its prompts and their hidden states, and what steering does to it there.

Shape letters: N prompts of the set, L layers of the file, M prompts asked, W width.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from datamodules.prompts.prompt_sets import Prompt, PromptSet
from experiments.errors import UserError
from experiments.extract import PARTS, all_examples, encode_prompt
from experiments.language_models.opening import LoadedModel
from experiments.steering.methods import Pairs
from experiments.steering.states_manifest import (
    Manifest,
    check_split,
    examples_sha256,
    read_manifest,
    weights_sha256,
)
from lit_modules.generation.answer_scores import AnswerScorer, Steer


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to answer the prompts asked.

    Attributes:
        layer: That is steered.
        vectors: (M, W).
        alpha: Their factor.
        instruction: Put before each prompt.
    """

    layer: int
    vectors: Tensor
    alpha: float = 1.0
    instruction: str = ""


@dataclass
class Scores:
    """Of each prompt asked, in order.

    Attributes:
        wanted: Mean log-probability of a token of the held-out wanted answers.
        unwanted: Of the unwanted ones.
        right: 1 where no other instantiation of the family has a likelier wanted answer, 0 elsewhere, NaN
            in a family of one.
    """

    wanted: list[float] = field(default_factory=list)
    unwanted: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)

    @property
    def margin(self) -> list[float]:
        """log p(wanted) − log p(unwanted) per token."""
        return [w - u for w, u in zip(self.wanted, self.unwanted, strict=True)]


@dataclass
class Written:
    """What was answered to each prompt asked, in order.

    Attributes:
        tokens: Of the answers; none where the model stopped at once.
        unsteered: Mean log-probability of each answer's tokens to the unsteered model; NaN of none.
    """

    tokens: list[list[int]] = field(default_factory=list)
    unsteered: list[float] = field(default_factory=list)


class Bench:
    """A model, a prompt set, and the file of hidden states that was made of both.

    Args:
        model: Opened as it was for the extraction.
        prompts: The set.
        path: The file.
        answers: How many of each side's a vector is the mean over, as for the extraction; 0: all.
        batch_size: Prompts read together.

    Raises:
        UserError: The file was made of another model, of other prompts, or with these in other splits.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompts: PromptSet,
        path: Path,
        *,
        answers: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.manifest: Manifest = read_manifest(path)
        self.batch_size = batch_size
        tensors = load_file(path)
        if self.manifest.model_sha256 != weights_sha256(model.network):
            raise UserError(f"{path} was made from another model: {self.manifest.model}, not {model.name}")
        examples = all_examples(model, prompts, self.manifest.template, answers=answers)  # type: ignore[arg-type]
        if self.manifest.prompts_sha256 != examples_sha256(examples):
            raise UserError(
                f"{path} was made of other prompts or answers than {prompts.name} has now; start a new run"
            )
        check_split(path, [PARTS[prompt.split] for prompt in prompts.prompts])
        self._h, self._z = tensors["h"], tensors["z"]  # (N, L, W)

    def rows(
        self, split: str, *, neutral: bool = False, seen: bool | None = None, limit: int = 0
    ) -> list[int]:
        """Places of prompts in the set, in order; of more than `limit`, as many drawn by lot; 0: all.

        The lot is the same each time. Evenly spaced ones could all be of a few templates, for a topic's
        prompts stand together.
        """
        found = [
            row
            for row, prompt in enumerate(self.prompts.prompts)
            if prompt.split == split
            and self.prompts.instantiations[prompt.instantiation].is_neutral == neutral
            and (seen is None or prompt.seen == seen)
        ]
        if not limit or limit >= len(found):
            return found
        return sorted(random.Random(0).sample(found, limit))

    def chosen(self, rows: Sequence[int]) -> list[Prompt]:
        """The prompts at these places."""
        return [self.prompts.prompts[row] for row in rows]

    def pairs(self, rows: Sequence[int], *, input_layer: int, target_layer: int) -> Pairs:
        """Their hidden states and vectors.

        Raises:
            UserError: The file has no such layer.
        """
        layers = self.manifest.layers
        for layer in (input_layer, target_layer):
            if layer not in layers:
                raise UserError(f"the hidden states are of layers {', '.join(map(str, layers))}, not {layer}")
        chosen = self.chosen(rows)
        return Pairs(
            h=self._h[list(rows), layers.index(input_layer)],
            z=self._z[list(rows), layers.index(target_layer)],
            instantiations=[prompt.instantiation for prompt in chosen],
            families=[prompt.family for prompt in chosen],
        )

    def score(
        self, rows: Sequence[int], plans: Mapping[str, Plan], *, rank: bool = False
    ) -> dict[str, Scores]:
        """How likely the held-out answers become under each plan.

        Args:
            rows: The prompts asked, none of them neutral.
            plans: By name.
            rank: Also compare with the other instantiations' answers, for `right`.
        """
        found = {name: Scores() for name in plans}
        for places in self._batches(rows):
            prompts = self.chosen([rows[place] for place in places])
            wanted = [self._answers(p.instantiation, "wanted") for p in prompts]
            unwanted = [self._answers(p.instantiation, "unwanted") for p in prompts]
            others = [self._rivals(p) if rank else [] for p in prompts]
            answers = [[*w, *u, *o] for w, u, o in zip(wanted, unwanted, others, strict=True)]
            longest = max(len(answer) for own in answers for answer in own)
            scorers = self._scorers(rows, places, plans, longest_answer=longest)
            for name, plan in plans.items():
                made = scorers[plan.instruction].log_probabilities(answers, _steer(plan, places))
                for own, w, u in zip(made, wanted, unwanted, strict=True):
                    scores, first = found[name], own[0]
                    scores.wanted.append(mean(own[: len(w)]))
                    scores.unwanted.append(mean(own[len(w) : len(w) + len(u)]))
                    rivals = own[len(w) + len(u) :]
                    scores.right.append(float(first > max(rivals)) if rivals else math.nan)
        return found

    def divergence(self, rows: Sequence[int], plans: Mapping[str, Plan]) -> dict[str, list[float]]:
        """KL(unsteered ‖ steered) of each prompt's next token, in nats; an instruction may steer too."""
        found: dict[str, list[float]] = {name: [] for name in plans}
        for places in self._batches(rows):
            scorers = self._scorers(rows, places, plans, longest_answer=1)
            plain = scorers[""].next_log_probabilities()
            for name, plan in plans.items():
                other = scorers[plan.instruction].next_log_probabilities(_steer(plan, places))
                found[name] += (plain.exp() * (plain - other)).sum(-1).tolist()
        return found

    def write(
        self, rows: Sequence[int], plans: Mapping[str, Plan], *, max_new_tokens: int
    ) -> dict[str, Written]:
        """Greedy answers to each prompt under each plan, and how likely the unsteered model finds them."""
        found = {name: Written() for name in plans}
        for places in self._batches(rows):
            scorers = self._scorers(rows, places, plans, longest_answer=max_new_tokens)
            for name, plan in plans.items():
                answers = scorers[plan.instruction].write(
                    max_new_tokens,
                    stop_ids=self.model.stop_ids,
                    vocab_size=self.model.tokenizer.vocab_size,
                    steer=_steer(plan, places),
                )
                made = scorers[""].log_probabilities([[answer] if answer else [] for answer in answers])
                found[name].tokens += answers
                found[name].unsteered += [own[0] if own else math.nan for own in made]
        return found

    def _scorers(
        self, rows: Sequence[int], places: Sequence[int], plans: Mapping[str, Plan], *, longest_answer: int
    ) -> dict[str, AnswerScorer]:
        """The prompts with each instruction that a plan has, and without any, all read once."""
        prompts = self.chosen([rows[place] for place in places])
        return {
            text: AnswerScorer(
                self.model.network, [self._encode(p, text) for p in prompts], longest_answer=longest_answer
            )
            for text in {"", *(plan.instruction for plan in plans.values())}
        }

    def _encode(self, prompt: Prompt, instruction: str) -> list[int]:
        text = f"{instruction} {prompt.text}" if instruction else prompt.text
        return encode_prompt(self.model, text, self.manifest.template)  # type: ignore[arg-type]

    def _answers(self, instantiation: str, side: Any) -> list[list[int]]:
        texts = self.prompts.completions(instantiation, side, "score")
        return [self.model.tokenizer.encode(text) for text in texts]

    def _rivals(self, prompt: Prompt) -> list[list[int]]:
        """The first held-out wanted answer of each other instantiation of the family."""
        names = self.prompts.families[prompt.family]
        return [self._answers(name, "wanted")[0] for name in names if name != prompt.instantiation]

    def _batches(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """Places in `rows`."""
        for start in range(0, len(rows), self.batch_size):
            yield list(range(start, min(start + self.batch_size, len(rows))))


def _steer(plan: Plan, places: list[int]) -> Steer:
    return Steer(layer=plan.layer, vectors=plan.vectors[places], alpha=plan.alpha)


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)


def perplexity_ratio(written: Written, plain: Written) -> float:
    """How many times as perplexing answers are to the unsteered model as its own; NaN if there are no pairs.

    Geometric means over the prompts that have both, so that nothing is gained by silence.
    """
    apart = [a - b for a, b in zip(plain.unsteered, written.unsteered, strict=True)]
    known = [value for value in apart if not math.isnan(value)]
    return math.exp(mean(known)) if known else math.nan


def repetition(tokens: Sequence[int], size: int = 3) -> float:
    """The share of a text's runs of three tokens that were there before; 0 for one too short to have any."""
    runs = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
