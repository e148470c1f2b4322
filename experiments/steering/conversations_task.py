"""The stage that writes the answers that steering learns from as conversations, for LoRA."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from datamodules.prompts.prompt_sets import Prompt
from datamodules.text.conversations import SPLITS
from experiments.config.root import Config
from experiments.config.steering_tasks import ConversationsTaskConfig, ExtractTaskConfig
from experiments.errors import UserError
from experiments.steering.chain import NOTHING_EXTRACTED, configs_of, find_task, open_evaluator
from experiments.steering.evaluator import Evaluator, Plan
from experiments.steering.extraction import fit_answers
from experiments.studies.tasks import Stage, Task
from experiments.training import run_directory

PLAIN = "task.template is plain: low-rank updates learn conversations; extract with the template chat"


class ConversationsTask(Task):
    """Write one conversation for each prompt and each of its wanted answers that made its steering vector.

    The vectors of neutral prompts are zero: their answers should not change. Their conversations therefore
    have the answers of the model itself.
    """

    output = "conversations.jsonl"
    settings: ConversationsTaskConfig

    def check(self, earlier: Mapping[str, Config]) -> None:
        """Check that an earlier stage extracts hidden states of conversations.

        Raises:
            UserError: No stage does.
        """
        extracting = find_task(earlier, ExtractTaskConfig)
        if extracting is None:
            raise UserError(NOTHING_EXTRACTED)
        if extracting[1].template == "plain":
            raise UserError(PLAIN)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Write the conversations of all prompts, with the split of each prompt.

        Raises:
            UserError: The extracting stage did not read the prompts as conversations.
        """
        evaluator = open_evaluator(stages)
        if evaluator.manifest.template != "chat":
            raise UserError(PLAIN)
        extracting = find_task(configs_of(stages), ExtractTaskConfig)
        assert extracting is not None  # `open_evaluator` has found it
        lines = [
            *steered_lines(evaluator, extracting[1].answers),
            *neutral_lines(evaluator, self.settings.max_new_tokens),
        ]
        random.Random(0).shuffle(lines)  # neighbours share a row, and the prompts of a topic are neighbours
        run_directory.write_text(run_dir / self.output, "".join(f"{json.dumps(line)}\n" for line in lines))
        say(f"{len(lines)} conversations")
        return {"conversations": float(len(lines))}


def steered_lines(evaluator: Evaluator, answers: int) -> Iterator[dict[str, Any]]:
    """Yield the conversations of the prompts to steer."""
    for turn, prompt in enumerate(evaluator.prompts.prompts):
        for text in fit_answers(evaluator.prompts, prompt, "wanted", answers, turn):
            yield conversation(prompt, text)


def neutral_lines(evaluator: Evaluator, max_new_tokens: int) -> Iterator[dict[str, Any]]:
    """Yield the conversations of the neutral prompts, except those that the model does not answer."""
    rows = [row for split in SPLITS for row in evaluator.rows(split, neutral=True)]
    if not rows:
        return
    width = evaluator.model.network.embedding.embedding_dim
    unsteered = Plan(layer=0, vectors=torch.zeros(len(rows), width), factor=0.0)
    written = evaluator.write(rows, {"unsteered": unsteered}, max_new_tokens=max_new_tokens)["unsteered"]
    for prompt, tokens in zip(evaluator.chosen(rows), written.tokens, strict=True):
        if tokens:
            yield conversation(prompt, evaluator.model.tokenizer.decode(tokens))


def conversation(prompt: Prompt, answer: str) -> dict[str, Any]:
    """Return a line of the file; see `datamodules.configs.chat_corpus`."""
    messages = [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "split": prompt.split}
