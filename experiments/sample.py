"""Continue texts with a language model, and show each as it grows.

The model is a checkpoint or run directory of this suite, or a pre-trained one: smollm2, a folder with
config.json and safetensors files (Llama, GPT-2), or a GGUF file. Several prompts are continued at once, each
as if it were alone; a prompt and a seed decide a text. For a prompt or stop string with line ends, shells
have $'\\n\\n'.
"""

import argparse
import dataclasses
import json
import sys
import time
import typing
from collections.abc import Callable, Sequence
from typing import Any

from experiments import cli
from experiments.config import schema
from experiments.config.sources import read_mapping
from experiments.errors import UserError
from experiments.language_models.opening import PRECISIONS, LoadedModel, open_language_model
from experiments.language_models.text_stream import TextStream
from lit_modules.configs.generation import SamplingConfig

START = "\n"
"""The prompt of a text that has none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One continued text.

    Attributes:
        text: What follows the prompt.
        tokens: How many tokens were generated for it.
    """

    text: str
    tokens: int


def sample(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
    *,
    seeds: Sequence[int] | None = None,
    stop: Sequence[str] = (),
    use_cache: bool = True,
    show: Callable[[int, str], None] | None = None,
) -> list[Sample]:
    """Continue prompts until each stops or has `settings.max_new_tokens` more tokens.

    Args:
        model: From `experiments.language_models.opening`.
        prompts: Token ids.
        settings: How to choose tokens; the model's own end of text is added to the stop ids.
        seeds: One for each prompt; `settings.seed` for all by default.
        stop: Strings that end a text and are no part of it.
        use_cache: See `generate`.
        show: Called with the number of a text and its next characters. Texts come one after the other: of
            those that grow together the first unfinished one is shown live, and the next from its start
            once that is done.

    Raises:
        ValueError: As `generate`.
    """
    from lit_modules.generation.generate import generate

    streams = [TextStream(model.tokenizer.token_bytes, stop) for _ in prompts]
    ended, shown, live = [False] * len(prompts), [0] * len(prompts), 0

    def tell() -> None:
        nonlocal live
        while show is not None and live < len(streams):
            if new := streams[live].text[shown[live] :]:
                show(live, new)
            shown[live] += len(new)
            if not ended[live]:
                return
            live += 1

    def on_token(row: int, token: int) -> bool:
        if streams[row].push(token) and row == live:
            tell()
        return streams[row].stopped

    def on_end(row: int) -> None:
        streams[row].finish()
        ended[row] = True
        tell()

    settings = dataclasses.replace(settings, stop_ids=[*settings.stop_ids, *model.stop_ids])
    new = generate(
        model.network,
        prompts,
        settings,
        seeds=seeds,
        use_cache=use_cache,
        vocab_size=model.tokenizer.vocab_size,
        on_token=on_token,
        on_end=on_end,
    )
    return [Sample(text=s.text, tokens=len(ids)) for s, ids in zip(streams, new, strict=True)]


def encode(model: LoadedModel, text: str) -> list[int]:
    """A prompt's ids.

    Raises:
        UserError: It is empty, or has characters that the model doesn't know.
    """
    if not text:
        raise UserError("--prompt is empty: give the model something to go on from")
    try:
        return model.tokenizer.encode(text)
    except ValueError as error:
        raise UserError(f"--prompt {shorten(text)!r}: {error}") from error


def encode_start(model: LoadedModel) -> list[int]:
    """What a text begins behind that nobody gave a beginning: the end of a line.

    Raises:
        UserError: The model knows no lines.
    """
    try:
        return model.tokenizer.encode(START)
    except ValueError as error:
        raise UserError(f"{model.name} knows no line ends to begin behind: give a --prompt") from error


def encode_chat(model: LoadedModel, message: str) -> list[int]:
    """The ids of a conversation in which the model has to answer a message.

    Raises:
        UserError: The model has no chat format.
    """
    if model.chat is None:
        raise UserError(f"{model.name} is no chat model; continue a text with --prompt")
    return model.chat(message)


def shorten(text: str, limit: int = 60) -> str:
    """A text's beginning on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def notes(model: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """What a person must know of texts that are longer than the model looks back."""
    context = model.context_length
    if context is None:
        return []
    said = [
        f"prompt {number} has {len(prompt)} tokens, and {model.name} looks back on {context}: "
        f"it reads the last {context}"
        for number, prompt in enumerate(prompts, start=1)
        if len(prompt) > context
    ]
    longest = max(len(prompt) for prompt in prompts) + max_new_tokens
    if longest > context:
        said.append(
            f"{model.name} looks back on {context} tokens: where a text outgrows them, "
            "its older half is forgotten at a time"
        )
    return said


def build_parser() -> argparse.ArgumentParser:
    """The command line; the options of sampling come from their schema."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a checkpoint, a run directory, or a pre-trained model")
    add("--prompt", action="append", metavar="TEXT", help="what to go on from; may be repeated")
    add(
        "--chat",
        action="append",
        metavar="TEXT",
        help="a message to answer, for chat models; may be repeated",
    )
    add(
        "--samples",
        type=int,
        default=1,
        metavar="N",
        help="texts of each prompt, with seeds --seed, --seed+1, …",
    )
    add(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="a string that ends a text; may be repeated",
    )
    hints = typing.get_type_hints(SamplingConfig)
    for field in dataclasses.fields(SamplingConfig):
        if field.name != "stop_ids":
            kind = int if hints[field.name] in (int, int | None) else float
            default = "all tokens" if field.default is None else field.default
            text = f"{field.metadata['help']} Default: {default}."
            if field.name == "temperature":
                text = text[:-1] + ", or 0 with --chat."
            add(f"--{field.name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper(), help=text)
    add(
        "--no-cache",
        action="store_true",
        help="compute everything anew for each token: slower, and the same text but for rounding",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        help="number format of the weights; default: fp32, or what the network of --steer learned from",
    )
    add("--steer", metavar="CHECKPOINT", help="answer unsteered, by the mean vector and by this network's")
    add("--alpha", type=float, metavar="FLOAT", help="factor of the vectors; default: 1")
    add("--json", action="store_true", help="print one JSON object a text, when all are done")
    return parser


def read_settings(options: argparse.Namespace) -> SamplingConfig:
    """The sampling options, checked against their schema.

    Raises:
        UserError: One lies outside its range.
    """
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(SamplingConfig)
        if getattr(options, field.name, None) is not None
    }
    if options.chat and "temperature" not in given:
        given["temperature"] = 0.0
    return schema.build(SamplingConfig, given, "", read_mapping(given, "the command line"))


@cli.command
def main(arguments: list[str]) -> None:
    """Continue what the command line names; see `--help`."""
    options = build_parser().parse_intermixed_args(arguments)
    if options.prompt and options.chat:
        raise UserError("--prompt continues a text and --chat answers a message: give one of them")
    if options.samples < 1:
        raise UserError(f"--samples {options.samples}: allowed are whole numbers of at least 1")
    settings = read_settings(options)
    if options.steer is None and options.alpha is not None:
        raise UserError("--alpha is the factor of vectors: name the network that gives them by --steer")
    if options.steer is not None and (options.samples != 1 or options.stop or options.no_cache):
        raise UserError("--steer shows one answer of each way: leave out --samples, --stop and --no-cache")
    if options.steer is not None and options.precision == "int8":
        raise UserError("--steer changes hidden states: --precision may be fp32 or bf16")
    if options.steer is None:
        model = open_language_model(options.model, options.precision or "fp32")
    else:
        from experiments.steering.steered_samples import open_steered

        model = open_steered(options.model, options.steer, options.precision)
    texts: list[str] = options.chat or options.prompt or [START]
    if options.chat or options.prompt:
        ids = [encode_chat(model, text) if options.chat else encode(model, text) for text in texts]
    else:
        ids = [encode_start(model)]
    for note in notes(model, ids, settings.max_new_tokens):
        print(f"note: {note}", file=sys.stderr)
    if options.steer is not None:
        _show_steered(options, model, texts, ids, settings)
        return
    rows = [
        (text, prompt, number)
        for text, prompt in zip(texts, ids, strict=True)
        for number in range(options.samples)
    ]
    printer = _Printer([text for text, _, _ in rows], is_chat=bool(options.chat))
    start = time.perf_counter()
    samples = sample(
        model,
        [prompt for _, prompt, _ in rows],
        settings,
        seeds=[settings.seed + number for _, _, number in rows],
        stop=options.stop,
        use_cache=not options.no_cache,
        show=None if options.json else printer.show,
    )
    seconds = time.perf_counter() - start
    if options.json:
        for (text, _, number), made in zip(rows, samples, strict=True):
            key = "chat" if options.chat else "prompt"
            record = {key: text, "seed": settings.seed + number, "text": made.text, "tokens": made.tokens}
            print(json.dumps(record, ensure_ascii=False))
    else:
        printer.finish()
    count = sum(made.tokens for made in samples)
    print(f"{count} tokens in {seconds:.1f} s: {count / seconds:.0f} tokens/s", file=sys.stderr)


def _show_steered(
    options: argparse.Namespace,
    model: LoadedModel,
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    settings: SamplingConfig,
) -> None:
    """Answers three ways, one below the other."""
    from experiments.steering.steered_samples import steered_samples

    alpha = 1.0 if options.alpha is None else options.alpha
    found = steered_samples(model, options.steer, ids, settings, alpha=alpha)
    for number, text in enumerate(texts):
        answers = {way: own[number] for way, own in found.items()}
        if options.json:
            key = "chat" if options.chat else "prompt"
            print(json.dumps({key: text, "alpha": alpha, **answers}, ensure_ascii=False))
            continue
        print(f"── {shorten(text)} ──")
        for way, answer in answers.items():
            print(f"{way}: {answer.strip()}")


class _Printer:
    """Writes texts one below the other, each behind its prompt; several of them with a line above each."""

    def __init__(self, texts: Sequence[str], *, is_chat: bool) -> None:
        self._texts = texts
        self._is_chat = is_chat
        self._begun = 0
        if hasattr(sys.stdout, "reconfigure"):
            typing.cast(Any, sys.stdout).reconfigure(errors="replace")  # a terminal without these letters

    def show(self, number: int, new: str) -> None:
        """Write the next characters of a text."""
        self._begin(number + 1)
        print(new, end="", flush=True)

    def finish(self) -> None:
        """End the last line, and begin those texts that have nothing to show."""
        self._begin(len(self._texts))
        print(flush=True)

    def _begin(self, count: int) -> None:
        for number in range(self._begun, count):
            if number:
                print()
            if len(self._texts) > 1:
                about = f": {shorten(self._texts[number])}" if self._is_chat else ""
                print(f"── {number + 1} of {len(self._texts)}{about} ──")
            if not self._is_chat:
                print(self._texts[number], end="")
        self._begun = max(self._begun, count)


if __name__ == "__main__":
    sys.exit(main(None))
