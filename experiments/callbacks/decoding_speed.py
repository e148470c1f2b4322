"""Measure the cache and the speed with which a trained language model writes."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from experiments.callbacks.summary import is_sharded
from lit_modules.configs.generation import SamplingConfig
from lit_modules.generation.generate import generate
from lit_modules.networks.decoding_lm import DecodingLM

ROWS = 64
"""Texts that are written at the same time."""
REPEATS = 5


class DecodingSpeed(Callback):
    """Logs the size of the cache and the speed of greedy decoding, after the test.

    `test/cache_bytes_per_token` is the size of one token's keys and values in all layers.
    `test/decode_tokens_per_second` is the median of five measurements. Each measurement writes 64 texts at
    the same time. A text starts with half a context and is continued to a whole context. The speed depends on
    the machine and on what else runs on it.
    """

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, unless the weights are divided among processes."""
        if is_sharded(trainer):
            return
        network = DecodingLM(pl_module.network)  # type: ignore[arg-type]
        half = max(2, network.context_length // 2)
        prompt = [(i * i + 11) % network.vocab_size for i in range(half)]
        speeds = [decoding_speed(network, [prompt] * ROWS, half) for _ in range(REPEATS)]
        values = {
            "cache_bytes_per_token": float(cache_bytes_per_token(network)),
            "decode_tokens_per_second": statistics.median(speeds),
        }
        for name, value in values.items():
            pl_module.log(f"test/{name}", value, sync_dist=True)


@torch.inference_mode()
def cache_bytes_per_token(network: DecodingLM) -> int:
    """Return the bytes that the keys and values of one token take in all layers."""
    caches = network.make_cache(1)
    network(torch.zeros(1, 1, dtype=torch.long, device=network.embedding.weight.device), cache=caches)
    return sum(cache.nbytes for cache in caches)


def decoding_speed(
    network: Any, prompts: Sequence[Sequence[int]], new_tokens: int, *, use_cache: bool = True
) -> float:
    """Return the tokens per second of all rows together, from the first new token to the last."""
    times: list[float] = []

    def note(row: int, token: int) -> None:
        if row == 0:
            times.append(time.perf_counter())

    settings = SamplingConfig(temperature=0.0, max_new_tokens=new_tokens)
    generate(network, prompts, settings, use_cache=use_cache, on_token=note)
    return len(prompts) * (len(times) - 1) / (times[-1] - times[0])
