"""Tokens per second of a pre-trained language model, one text at a time, compared with `transformers`.

All continue the same prompt greedily with the same weights. The speed is measured from the first new token to
the last, so the time to read the prompt is not included.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch

from experiments.benchmark.harness import Cell, Report, Sample, interleaved, positive, timed
from experiments.benchmark.library_llama import library_llama
from experiments.callbacks.decoding_speed import decoding_speed
from experiments.errors import UserError
from experiments.language_models.pretrained_models import find_file
from lit_modules.configs.generation import SamplingConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.generate import generate
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.readers import build_network, read_pretrained
from lit_modules.pretrained.source_fields import Pretrained

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
BANDWIDTH = "reading memory"
_BUFFER = 1 << 28  # Bytes; much larger than any cache.
_LONG_TOKENS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model and the lengths."""
    add = parser.add_argument
    add(
        "--model",
        default="smollm2",
        metavar="MODEL",
        help="a Llama: smollm2, a GGUF file or a folder (smollm2)",
    )
    add("--prompt", type=positive, default=32, metavar="N", help="tokens in the prompt (32)")
    add("--tokens", type=positive, default=64, metavar="N", help="new tokens (64)")
    add(
        "--long",
        type=positive,
        default=512,
        metavar="N",
        help="text length at which the cache is compared (512)",
    )


def run(options: argparse.Namespace) -> Report:
    """Measure all in turns; then measure ours at the end of a long text with and without cache."""
    repeats = options.repeats or (2 if options.quick else 7)
    pretrained = tiny_model() if options.quick else read_model(options.model)
    lengths = (5, 6, 16) if options.quick else (options.prompt, options.tokens, options.long)
    prompt_length, new_tokens, long = lengths
    if new_tokens < 2 or long <= _LONG_TOKENS:
        raise UserError(
            f"--tokens {new_tokens}, --long {long}: --tokens must be ≥ 2 and --long > {_LONG_TOKENS}"
        )
    if max(prompt_length + new_tokens, long + 1) > pretrained.context_length:
        raise UserError(
            f"{options.model} has context length {pretrained.context_length}: choose shorter lengths"
        )
    prompt = [(i * i + 11) % pretrained.vocab_size for i in range(max(prompt_length, long))]

    networks = {precision: lay_out(pretrained, precision) for precision in PRECISIONS}
    library = {
        "fp32": library_llama(pretrained, torch.float32),
        "bf16": library_llama(pretrained, torch.bfloat16),
    }
    short = prompt[:prompt_length]
    ways: dict[str, Callable[[], float]] = {
        f"transformers {precision}": partial(library_speed, model, short, new_tokens)
        for precision, model in library.items()
        if model is not None
    }
    ways |= {f"ours {p}": partial(decoding_speed, networks[p], [short], new_tokens) for p in PRECISIONS}
    buffer = torch.ones(_BUFFER // 4 // (64 if options.quick else 1))
    speeds = interleaved({**ways, BANDWIDTH: partial(_read_speed, buffer)}, repeats=repeats)

    report = Report(title="Decoding, one text at a time")
    report.rows = _rows(speeds, networks)
    report.rows += _long_rows(networks, prompt[: long - _LONG_TOKENS], long, 1 + repeats // 2)
    report.notes = [
        f"Prompt of {prompt_length} tokens, {new_tokens} new tokens; {repeats} turns, "
        f"{torch.get_num_threads()} threads.",
        f"Reading memory: {speeds[BANDWIDTH].scaled(1e-9)} GB/s (sum of {buffer.nbytes >> 20} MiB). Of "
        "bandwidth: bytes of the matrices × tokens/s, divided by this.",
        _agreement(library["fp32"], networks["fp32"], short, new_tokens),
    ]
    return report


def _rows(speeds: dict[str, Sample], networks: dict[Precision, DecodingLM]) -> list[dict[str, Cell]]:
    peers = [sample for way, sample in speeds.items() if way.startswith("transformers")]
    best = max(peers, key=lambda sample: sample.mean, default=None)
    sizes = {precision: network.bytes_per_token for precision, network in networks.items()}
    rows: list[dict[str, Cell]] = []
    for way, speed in speeds.items():
        if way == BANDWIDTH:
            continue
        size = next(size for precision, size in sizes.items() if way.endswith(precision))
        rows.append(
            {
                "way": way,
                "tokens/s": speed,
                "ms/token": speed.inverse(1e3),
                "× transformers' best": None if best is None else speed.ratio_to(best),
                "MB/token": size / 1e6,
                "of bandwidth": speed.scaled(size).ratio_to(speeds[BANDWIDTH]),
            }
        )
    return rows


def _long_rows(
    networks: dict[Precision, DecodingLM], prompt: Sequence[int], long: int, repeats: int
) -> list[dict[str, Cell]]:
    """Measure tokens at the end of a long text, with the cache and without."""
    rows: list[dict[str, Cell]] = []
    for precision, network in networks.items():
        speeds = interleaved(
            {
                f"at {long} tokens, {name}": partial(
                    decoding_speed, network, [prompt], _LONG_TOKENS + 1, use_cache=name == "cached"
                )
                for name in ("uncached", "cached")
            },
            repeats=repeats,
        )
        uncached = next(iter(speeds.values()))
        rows += [
            {
                "way": f"ours {precision}, {way}",
                "tokens/s": speed,
                "ms/token": speed.inverse(1e3),
                "× uncached": speed.ratio_to(uncached),
            }
            for way, speed in speeds.items()
        ]
    return rows


def read_model(name: str) -> Pretrained:
    """Read a Llama by name.

    Raises:
        UserError: The files cannot be read, or hold another kind of model.
    """
    try:
        pretrained = read_pretrained(find_file(name))
    except ValueError as error:
        raise UserError(str(error)) from error
    if pretrained.config.feed_forward != "swiglu":
        raise UserError(
            f"--model {name} is not a Llama, the only kind that this benchmark can build in both libraries"
        )
    return pretrained


def tiny_model() -> Pretrained:
    """Return a small Llama with random weights."""
    config = LanguageModelConfig(
        depth=2,
        width=64,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        feed_forward="swiglu",
        feed_forward_width=96,
        norm="rms_norm",
        position="rotary",
        rotary_layout="adjacent_pairs",
        bias=False,
        linear_std=0.2,
    )
    torch.manual_seed(0)
    network = TransformerLM(config, vocab_size=96, context_length=32)
    return Pretrained(config=config, vocab_size=96, context_length=32, state_dict=network.state_dict())


def lay_out(pretrained: Pretrained, precision: Precision) -> DecodingLM:
    """Return the network in a precision, laid out as for the command `sample`."""
    network = build_network(pretrained, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return DecodingLM(network, weights="int8" if precision == "int8" else "as_they_are")


class _Clock:
    """Records times as a streamer of `transformers`, which gets the prompt, then each new token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: object) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing; `transformers` calls this after the last token."""


def library_speed(model: Any, prompt: Sequence[int], new_tokens: int) -> float:
    """Return the tokens per second of `generate` of `transformers` after the first new token."""
    clock = _Clock()
    library_tokens(model, prompt, new_tokens, streamer=clock)
    times = clock.times[1:]
    return (len(times) - 1) / (times[-1] - times[0])


def library_tokens(model: Any, prompt: Sequence[int], new_tokens: int, *, streamer: Any = None) -> list[int]:
    """Return the new tokens of `transformers`."""
    ids = torch.tensor([list(prompt)])
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
        use_cache=True,
        streamer=streamer,
    )
    return made[0, len(prompt) :].tolist()


def _agreement(model: Any, network: DecodingLM, prompt: Sequence[int], new_tokens: int) -> str:
    if model is None:
        return "transformers is not installed, so there is no comparison."
    settings = SamplingConfig(temperature=0.0, max_new_tokens=new_tokens)
    ours = generate(network, [prompt], settings)[0]
    theirs = library_tokens(model, prompt, new_tokens)
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), new_tokens)
    return f"In fp32 the first {same} of {new_tokens} new tokens are those of transformers."


def _read_speed(buffer: torch.Tensor) -> float:
    """Return the speed of reading memory in bytes per second."""
    return buffer.nbytes / timed(buffer.sum)()
