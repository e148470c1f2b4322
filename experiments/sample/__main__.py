"""Parse the command line, open the model, and print what it writes."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from experiments import cli
from experiments.console import announce
from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_language_model
from experiments.sample.continuation import continue_texts
from experiments.sample.dialogue import Dialogue, converse
from experiments.sample.options import build_parser, read_options
from experiments.sample.printer import Printer
from experiments.sample.prompt_encoding import (
    START,
    context_notes,
    encode_message,
    encode_prompt,
    encode_start,
    require_chat,
    shorten,
)
from experiments.training.threads import use_one_thread_if_small
from lit_modules.configs.generation import SamplingConfig

__all__ = ["build_parser", "main"]


@cli.command
def main(arguments: list[str]) -> None:
    """Continue the texts given on the command line."""
    options, settings = read_options(arguments)
    announce(f"opening {options.model}")
    model = _open_model(options)
    if options.system is not None:
        model = replace(model, chat=replace(require_chat(model), system=options.system))
    if options.dialogue:
        _talk(options, model, settings)
        return
    texts: list[str] = options.chat or options.prompt or [START]
    if options.chat:
        prompts = [encode_message(model, text) for text in texts]
    elif options.prompt:
        prompts = [encode_prompt(model, text) for text in texts]
    else:
        prompts = [encode_start(model)]
    for note in context_notes(model, prompts, settings.max_new_tokens):
        print(f"note: {note}", file=sys.stderr)
    if options.steer:
        _show_steered(options, model, texts, prompts, settings)
    else:
        _show_continuations(options, model, texts, prompts, settings)


def _open_model(options: argparse.Namespace) -> LoadedModel:
    if not options.steer:
        default = "auto" if options.dialogue else "fp32"
        model = open_language_model(options.model, options.precision or default)
        use_one_thread_if_small(model.network)
        return model
    from experiments.steering.steered_samples import are_vectors, open_steered

    if not are_vectors(options.steer) and options.dialogue:
        raise UserError("a dialogue is steered by a vector (.safetensors), not by a network")
    return open_steered(options.model, options.steer, options.precision)


def _talk(options: argparse.Namespace, model: LoadedModel, settings: SamplingConfig) -> None:
    """Answer the lines of standard input, steered by a vector if there is one."""
    dialogue = Dialogue(
        model, settings, stop=options.stop, use_cache=not options.no_cache, as_json=options.json
    )
    title = f"{model.name} in {model.precision}"
    if not options.steer:
        converse(dialogue, title)
        return

    from experiments.steering.steered_samples import vector_steering
    from lit_modules.generation.steered import each_row_steered

    alphas = options.alpha or [1.0]
    with each_row_steered(model.network, vector_steering(model, options.steer, alphas)):
        converse(dialogue, f"{title}, steered by {alphas[0]:g} × {options.steer[0]}")


def _show_continuations(
    options: argparse.Namespace,
    model: LoadedModel,
    texts: Sequence[str],
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
) -> None:
    """Print `options.samples` continuations of each prompt."""
    rows = [
        (text, prompt, settings.seed + number)
        for text, prompt in zip(texts, prompts, strict=True)
        for number in range(options.samples)
    ]
    printer = Printer([text for text, _, _ in rows], is_chat=bool(options.chat))
    start = time.perf_counter()
    continuations = continue_texts(
        model,
        [prompt for _, prompt, _ in rows],
        settings,
        seeds=[seed for _, _, seed in rows],
        stop=options.stop,
        use_cache=not options.no_cache,
        show=None if options.json else printer.show,
    )
    seconds = time.perf_counter() - start
    if options.json:
        for (text, _, seed), made in zip(rows, continuations, strict=True):
            key = "chat" if options.chat else "prompt"
            record = {key: text, "seed": seed, "text": made.text, "tokens": made.tokens}
            print(json.dumps(record, ensure_ascii=False))
    else:
        printer.finish()
    count = sum(made.tokens for made in continuations)
    print(f"{count} tokens in {seconds:.1f} s: {count / seconds:.0f} tokens/s", file=sys.stderr)


def _show_steered(
    options: argparse.Namespace,
    model: LoadedModel,
    texts: Sequence[str],
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
) -> None:
    """Print the unsteered and the steered answers to each prompt."""
    from experiments.steering.steered_samples import one_for_each, steered_samples

    alphas = one_for_each(options.alpha or [1.0], len(prompts))
    found = steered_samples(model, options.steer, prompts, settings, alphas=alphas)
    for number, (text, alpha) in enumerate(zip(texts, alphas, strict=True)):
        answers = {method: own[number] for method, own in found.items()}
        if options.json:
            key = "chat" if options.chat else "prompt"
            print(json.dumps({key: text, "alpha": alpha, **answers}, ensure_ascii=False))
            continue
        factor = f" (α = {alpha:g})" if len(set(alphas)) > 1 else ""
        print(f"── {shorten(text)}{factor} ──")
        for method, answer in answers.items():
            print(f"{method}: {answer.strip()}")


if __name__ == "__main__":
    sys.exit(main(None))
