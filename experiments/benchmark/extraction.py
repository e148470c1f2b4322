"""Speed of reading hidden states of prompts and forced answers: text by text, prompt by prompt, in batches.

All three give the same numbers up to rounding. Text by text, the prompt is read again before each answer, as
in a loop over a library's `forward`. Prompt by prompt, the keys and values of a prompt are kept and used for
all its answers. In batches, several prompts are also read together.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from experiments import cli
from experiments.benchmark.decode import tiny_model
from experiments.benchmark.harness import Report, interleaved, positive, timed
from experiments.language_models.opening import open_language_model
from experiments.steering.extraction import forced_answers, open_prompt_set
from lit_modules.generation.hidden_states import ForcedAnswers, read_pairs
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.readers import build_network

BASELINE = "text by text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model and what it reads."""
    add = parser.add_argument
    add(
        "--model",
        type=cli.file_or_name,
        default="smollm2",
        metavar="MODEL",
        help="a model for `experiments.extract` (smollm2)",
    )
    add("--prompts", type=cli.file_or_name, default="yes_no", metavar="PROMPTS", help="a prompt set (yes_no)")
    add("--count", type=positive, default=64, metavar="N", help="prompts taken from it, evenly spaced (64)")
    add("--answers", type=positive, default=2, metavar="K", help="answers of each side (2)")
    add("--batch-size", type=positive, default=32, metavar="B", help="prompts read together (32)")
    add("--precision", choices=("fp32", "bf16"), default="bf16", help="number format of the weights (bf16)")


def run(options: argparse.Namespace) -> Report:
    """Measure all three in turns."""
    if options.quick:
        network, examples = tiny_examples()
    else:
        network, examples = read_examples(options)
    repeats = options.repeats or (2 if options.quick else 5)
    calls = {
        name: timed(call) for name, call in ways(network, examples, batch_size=options.batch_size).items()
    }
    taken = interleaved(calls, repeats=repeats)
    report = Report(title="Reading hidden states")
    for name, seconds in taken.items():
        speed = seconds.inverse(len(examples))
        report.rows.append(
            {"way": name, "prompts/s": speed, "times as fast": taken[BASELINE].ratio_to(seconds)}
        )
    report.notes = [
        f"{len(examples)} prompts of {sum(len(e.prompt) for e in examples) / len(examples):.0f} tokens, "
        f"{options.answers} answers of each side, in the same precision; {repeats} turns.",
        f"times as fast: compared with {BASELINE}, turn by turn.",
    ]
    return report


def ways(
    network: TransformerLM, examples: Sequence[ForcedAnswers], *, batch_size: int
) -> dict[str, Callable[[], list[Tensor]]]:
    """Return functions that compute z of all examples at the middle layer, in tensors (1 or more, 1, W)."""
    layers = [len(network.trunk.layers) // 2]

    def batched(size: int) -> list[Tensor]:
        # As in an extraction, prompts of similar length are read together to reduce padding.
        order = sorted(examples, key=lambda example: len(example.prompt))
        return [
            read_pairs(network, order[start : start + size], layers=layers)[1]
            for start in range(0, len(order), size)
        ]

    @torch.inference_mode()
    def last_state(tokens: Sequence[int]) -> Tensor:
        states: list[Tensor] = []
        network(torch.tensor([list(tokens)]), hidden_states=states, last_only=True)
        return states[layers[0] + 1][:, -1].float()  # The first state is the embedding.

    def text_by_text() -> list[Tensor]:
        found = []
        for example in sorted(examples, key=lambda example: len(example.prompt)):
            last_state(example.prompt)  # h
            means = [
                torch.stack([last_state([*example.prompt, *answer]) for answer in answers]).mean(0)
                for answers in (example.wanted, example.unwanted)
            ]
            found.append((means[0] - means[1]).unsqueeze(1))
        return found

    return {
        BASELINE: text_by_text,
        "prompt by prompt": lambda: batched(1),
        f"in batches of {batch_size}": lambda: batched(batch_size),
    }


def read_examples(options: argparse.Namespace) -> tuple[TransformerLM, list[ForcedAnswers]]:
    """Open the model and read the prompts that are not neutral."""
    model = open_language_model(options.model, options.precision, laid_out=False)
    prompts = open_prompt_set(options.prompts)
    chosen = [p for p in prompts.prompts if not prompts.instantiations[p.instantiation].is_neutral]
    count = min(options.count, len(chosen))
    template: Literal["plain", "chat"] = "plain" if model.chat is None else "chat"
    examples = [
        forced_answers(model, prompts, chosen[k * len(chosen) // count], template, answers=options.answers)
        for k in range(count)
    ]
    return model.network, examples


def tiny_examples() -> tuple[TransformerLM, list[ForcedAnswers]]:
    """Return a small network with random weights, and prompts of arbitrary tokens."""
    return build_network(tiny_model()), [
        ForcedAnswers(prompt=[1, 2, 3][: 1 + k % 3], wanted=[[4, 5]], unwanted=[[6]]) for k in range(5)
    ]
