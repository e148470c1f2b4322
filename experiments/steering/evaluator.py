"""Evaluate steering methods on a frozen language model with its prompts and their hidden states.

Shape letters: N prompts of the set, L layers of the file, M evaluated prompts, W width.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from datamodules.prompts.prompt_sets import Prompt, PromptSet, Side
from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_language_model
from experiments.steering.extraction import all_examples, encode_prompt, split_codes
from experiments.steering.measures import mean
from experiments.steering.methods import FittedMethods, Pairs
from experiments.steering.states_manifest import (
    Manifest,
    check_split,
    examples_sha256,
    read_manifest,
    weights_sha256,
)
from lit_modules.generation.answer_scores import AnswerScorer
from lit_modules.generation.steered import SteeringVectors
from lit_modules.layers.lora import scaled_copy


@dataclass(frozen=True, kw_only=True)
class Plan(SteeringVectors):
    """One way to answer the evaluated prompts, with one vector for each, (M, W)."""

    factor: float = 1.0  # one factor for all prompts
    instruction: str = ""  # text in front of each prompt
    adapter: Path | None = None  # run directory of low-rank updates, which the factor scales

    @property
    def reader(self) -> "Reader":
        """What reads the prompts under this plan; plans with the same reader share the work."""
        return Reader(self.instruction, self.adapter, 0.0 if self.adapter is None else self.factor)


class Reader(NamedTuple):
    """A model that reads the prompts after an instruction."""

    instruction: str = ""
    adapter: Path | None = None  # run directory of low-rank updates; None: the frozen model
    factor: float = 0.0  # factor of these updates


UNSTEERED = Reader()
"""The frozen model without an instruction."""


@dataclass
class Scores:
    """Scores of the held-out answers, one for each evaluated prompt.

    Attributes:
        wanted: Mean log-probability per token of the wanted answers.
        unwanted: Mean log-probability per token of the unwanted answers.
        right: 1 if the wanted answer of no other instantiation of the family is as likely, otherwise 0. NaN
            in a family with one instantiation.
    """

    wanted: list[float] = field(default_factory=list)
    unwanted: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)

    @property
    def margin(self) -> list[float]:
        """Margin of each prompt, log p(wanted) − log p(unwanted) per token."""
        return [w - u for w, u in zip(self.wanted, self.unwanted, strict=True)]


@dataclass
class Answers:
    """Generated answers, one for each evaluated prompt.

    Attributes:
        tokens: Token ids; empty if the model stopped at once.
        log_probability: Mean log-probability per token under the unsteered model; NaN for an empty answer.
    """

    tokens: list[list[int]] = field(default_factory=list)
    log_probability: list[float] = field(default_factory=list)


class Evaluator:
    """A model, a prompt set, and the file of hidden states that belongs to both.

    Args:
        model: The model, opened as for the extraction.
        answers: Number of wanted and of unwanted answers for each prompt, as in the extraction; 0 means all.
        batch_size: Number of prompts in a batch.

    Raises:
        UserError: The file was made from another model, other prompts, or other splits.
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
        self.answers = answers
        self.batch_size = batch_size
        if self.manifest.model_sha256 != weights_sha256(model.network):
            raise UserError(f"{path} was made from another model: {self.manifest.model}, not {model.name}")
        examples = all_examples(model, prompts, self.manifest.template, answers=answers)
        if self.manifest.prompts_sha256 != examples_sha256(examples):
            raise UserError(
                f"{path} was made from other prompts or answers than {prompts.name} has now; start a new run"
            )
        check_split(path, split_codes(prompts))
        tensors = load_file(path)
        self._h, self._z = tensors["h"], tensors["z"]  # (N, L, W)
        self._fitted: dict[tuple[int, int], FittedMethods] = {}
        self._adapted: dict[Path, Any] = {}

    def rows(
        self, split: str, *, neutral: bool = False, seen: bool | None = None, limit: int = 0
    ) -> list[int]:
        """Select prompts of a split, as ascending indices into the prompt set.

        A limit takes a random sample, because the prompts of one topic are neighbors in the set. The sample
        is always the same.

        Args:
            split: `train`, `validation` or `test`.
            neutral: Select the neutral prompts instead of those to steer.
            seen: Whether training uses the template of the prompt; `None` means both.
            limit: Largest number of prompts; 0 means no limit.
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
        """Return the prompts at these indices."""
        return [self.prompts.prompts[row] for row in rows]

    def pairs(self, rows: Sequence[int], *, input_layer: int, target_layer: int) -> Pairs:
        """Return the hidden states and vectors of the prompts at these indices.

        Raises:
            UserError: The file lacks a layer.
        """
        layers = self.manifest.layers
        for layer in (input_layer, target_layer):
            if layer not in layers:
                raise UserError(f"the file has the layers {', '.join(map(str, layers))}, not {layer}")
        chosen = self.chosen(rows)
        return Pairs(
            h=self._h[list(rows), layers.index(input_layer)],
            z=self._z[list(rows), layers.index(target_layer)],
            instantiations=[prompt.instantiation for prompt in chosen],
            families=[prompt.family for prompt in chosen],
        )

    def fitted(self, *, input_layer: int, target_layer: int) -> FittedMethods:
        """Return the methods fitted to all training prompts at these layers; each is fitted once."""
        key = (input_layer, target_layer)
        if key not in self._fitted:
            rows = [*self.rows("train"), *self.rows("train", neutral=True)]
            pairs = self.pairs(rows, input_layer=input_layer, target_layer=target_layer)
            self._fitted[key] = FittedMethods(pairs)
        return self._fitted[key]

    def score(
        self, rows: Sequence[int], plans: Mapping[str, Plan], *, rank: bool = False
    ) -> dict[str, Scores]:
        """Score the held-out answers under each plan; return the scores by name of the plan.

        Args:
            rows: Indices of the evaluated prompts; none is neutral.
            plans: The plans by name.
            rank: Also compare with the answers of other instantiations, for `Scores.right`.
        """
        found = {name: Scores() for name in plans}
        for places in self._batches(rows):
            prompts = self.chosen([rows[place] for place in places])
            wanted = [self._answers(p, p.instantiation, "wanted") for p in prompts]
            unwanted = [self._answers(p, p.instantiation, "unwanted") for p in prompts]
            others = [self._rivals(p) if rank else [] for p in prompts]
            answers = [[*w, *u, *o] for w, u, o in zip(wanted, unwanted, others, strict=True)]
            longest = max(len(answer) for own in answers for answer in own)
            scorers = self._scorers(prompts, plans, longest_answer=longest)
            for name, plan in plans.items():
                made = scorers[plan.reader].log_probabilities(answers, plan.select(places))
                for own, w, u in zip(made, wanted, unwanted, strict=True):
                    scores, first = found[name], own[0]
                    scores.wanted.append(mean(own[: len(w)]))
                    scores.unwanted.append(mean(own[len(w) : len(w) + len(u)]))
                    rivals = own[len(w) + len(u) :]
                    scores.right.append(float(first > max(rivals)) if rivals else math.nan)
        return found

    def divergence(self, rows: Sequence[int], plans: Mapping[str, Plan]) -> dict[str, list[float]]:
        """Compute KL(unsteered ‖ plan) of the next token, in nats, for each prompt and plan."""
        found: dict[str, list[float]] = {name: [] for name in plans}
        for places in self._batches(rows):
            prompts = self.chosen([rows[place] for place in places])
            scorers = self._scorers(prompts, plans, longest_answer=1)
            plain = scorers[UNSTEERED].next_log_probabilities()
            for name, plan in plans.items():
                other = scorers[plan.reader].next_log_probabilities(plan.select(places))
                found[name] += (plain.exp() * (plain - other)).sum(-1).tolist()
        return found

    def write(
        self, rows: Sequence[int], plans: Mapping[str, Plan], *, max_new_tokens: int
    ) -> dict[str, Answers]:
        """Generate a greedy answer to each prompt under each plan, and score it with the unsteered model."""
        found = {name: Answers() for name in plans}
        for places in self._batches(rows):
            prompts = self.chosen([rows[place] for place in places])
            scorers = self._scorers(prompts, plans, longest_answer=max_new_tokens)
            for name, plan in plans.items():
                answers = scorers[plan.reader].write(
                    max_new_tokens,
                    stop_ids=self.model.stop_ids,
                    steering=plan.select(places),
                )
                made = scorers[UNSTEERED].log_probabilities(
                    [[answer] if answer else [] for answer in answers]
                )
                found[name].tokens += answers
                found[name].log_probability += [own[0] if own else math.nan for own in made]
        return found

    def _scorers(
        self, prompts: Sequence[Prompt], plans: Mapping[str, Plan], *, longest_answer: int
    ) -> dict[Reader, AnswerScorer]:
        """Read the prompts once with the reader of each plan, and once with the unsteered model."""
        return {
            reader: AnswerScorer(
                self._network(reader),
                [self._encode(prompt, reader.instruction) for prompt in prompts],
                longest_answer=longest_answer,
                vocab_size=self.model.tokenizer.vocab_size,  # an adapted model has no more outputs
            )
            for reader in {UNSTEERED, *(plan.reader for plan in plans.values())}
        }

    def _network(self, reader: Reader) -> Any:
        """Return the frozen model, or its copy with scaled updates."""
        if reader.adapter is None:
            return self.model.network
        if reader.adapter not in self._adapted:
            precision = "bf16" if next(self.model.network.parameters()).dtype == torch.bfloat16 else "fp32"
            adapted = open_language_model(str(reader.adapter), precision, laid_out=False)
            self._adapted[reader.adapter] = adapted.network
        return scaled_copy(self._adapted[reader.adapter], reader.factor)

    def _encode(self, prompt: Prompt, instruction: str) -> list[int]:
        text = f"{instruction} {prompt.text}" if instruction else prompt.text
        return encode_prompt(self.model, text, self.manifest.template)

    def _answers(self, prompt: Prompt, instantiation: str, side: Side) -> list[list[int]]:
        texts = self.prompts.completions(instantiation, side, "score")
        start = self._encode(prompt, "")
        return [self.model.tokenizer.encode_after(start, text) for text in texts]

    def _rivals(self, prompt: Prompt) -> list[list[int]]:
        """Return the first held-out wanted answer of each other instantiation of the family."""
        names = self.prompts.families[prompt.family]
        return [self._answers(prompt, name, "wanted")[0] for name in names if name != prompt.instantiation]

    def _batches(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """Yield the positions in `rows`, batch by batch."""
        for start in range(0, len(rows), self.batch_size):
            yield list(range(start, min(start + self.batch_size, len(rows))))
