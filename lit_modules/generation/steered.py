"""Adds vectors to a language model's hidden states while it reads and writes, and leaves no trace after.

Shape letters: B rows, T tokens of one call, W width of the model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lit_modules.layers.kv_cache import KVCache

SteeredPositions = Literal["prompt", "generated", "both"]


class SteeredRows:
    """Which rows are read at the moment, and where their prompts end; see `steered`.

    Args:
        shifts: (B, W), what to add to the rows' hidden states.
        positions: To which of their tokens.
        prompt_lengths: Of the rows; `None` until `follow` says them.
    """

    def __init__(
        self, shifts: Tensor, positions: SteeredPositions, prompt_lengths: Sequence[int] | None
    ) -> None:
        self._all = self._shifts = shifts
        self._positions = positions
        self._lengths = None if prompt_lengths is None else torch.tensor(prompt_lengths)

    def follow(self, rows: Sequence[int], prompt_lengths: Sequence[int]) -> None:
        """Say what the next call reads: `generate` does, as `on_read`.

        Args:
            rows: Of the vectors, those that go on, in the order of the batch.
            prompt_lengths: How many tokens of each one's prompt are in sight.
        """
        self._shifts = self._all[list(rows)]
        self._lengths = torch.tensor(prompt_lengths)

    def shifted(self, states: Tensor, key_mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """The hidden states (B, T, W) with each row's vector added where it belongs."""
        if len(states) != len(self._shifts):
            raise ValueError(
                f"a batch of {len(states)} rows is read, but there are vectors for {len(self._shifts)}"
            )
        shifts = self._shifts.to(states.device, states.dtype).unsqueeze(1)  # (B, 1, W)
        if self._positions == "both":
            return states + shifts
        if self._lengths is None:
            raise ValueError(f"to steer {self._positions} tokens, say how long the prompts are")
        lengths = self._lengths.to(states.device).unsqueeze(-1)  # (B, 1)
        places = _positions(states, key_mask, cache)  # (B, T)
        chosen = places < lengths if self._positions == "prompt" else places >= lengths - 1
        return torch.where(chosen.unsqueeze(-1), states + shifts, states)


@contextmanager
def steered(
    network: Any,
    *,
    layer: int,
    vectors: Tensor,
    alpha: float,
    positions: SteeredPositions = "both",
    prompt_lengths: Sequence[int] | None = None,
) -> Iterator[SteeredRows]:
    """Within it, `alpha` times each row's vector is added to what `trunk.layers[layer]` gives.

    With the cache and without it the same tokens get the same vector. Nothing is left behind, whatever is
    raised within; `alpha = 0` changes not a bit, for then nothing is hooked at all.

        with steered(network, layer=17, vectors=vectors, alpha=1.0, positions="generated") as rows:
            generate(network, prompts, settings, on_read=rows.follow)

    Args:
        network: A `TransformerLM`. One laid out for generating has no layers that could be hooked.
        layer: 0 … depth − 1.
        vectors: (B, W), one for each row of a batch.
        alpha: Their factor.
        positions: `prompt`: the tokens of the prompt. `generated`: those that choose what is generated,
            from the prompt's last token on. `both`: all.
        prompt_lengths: Tokens of each row's prompt, from the row's first real token; not needed for `both`
            nor where `follow` is called.

    Yields:
        What follows the rows as they end.

    Raises:
        ValueError: No such layer, vectors of another width, or, while reading, of another number.
    """
    layers = layers_of(network)
    check_layer(network, layer)
    width = network.embedding.embedding_dim
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ValueError(
            f"vectors have shape {tuple(vectors.shape)}, expected (rows, {width}), the model's width"
        )
    if positions not in get_args(SteeredPositions):
        raise ValueError(
            f"positions is {positions!r}, expected one of {', '.join(map(repr, get_args(SteeredPositions)))}"
        )
    rows = SteeredRows(alpha * vectors, positions, prompt_lengths)
    if alpha == 0:
        yield rows
        return

    def shift(module: nn.Module, inputs: Any, settings: dict[str, Any], states: Tensor) -> Tensor:
        return rows.shifted(states, settings.get("key_mask"), settings.get("cache"))

    handle = layers[layer].register_forward_hook(shift, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


def layers_of(network: Any) -> nn.ModuleList:
    """The layers of a decoder.

    Raises:
        ValueError: It has none, or is laid out for generating.
    """
    layers = getattr(getattr(network, "trunk", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(
            f"a {type(network).__name__} has no layers whose hidden states can be read or changed; "
            "expected a TransformerLM"
        )
    return layers


def check_layer(network: Any, layer: int) -> None:
    """Refuse a layer that a decoder doesn't have.

    Raises:
        ValueError: Names the layer and what is allowed.
    """
    depth = len(layers_of(network))
    if not 0 <= layer < depth:
        raise ValueError(f"layer {layer} is out of range, the model has 0 … {depth - 1}")


def _positions(states: Tensor, key_mask: Tensor | None, cache: KVCache | None) -> Tensor:
    """Where the tokens of a call that has just been read stand in their rows, (B, T); padding anywhere."""
    batch, length, _ = states.shape
    if key_mask is None:
        key_mask = torch.ones(batch, length, dtype=torch.bool, device=states.device)
    before: Tensor | int = 0
    if cache is not None:  # which has them already
        total = cache.length if cache.row_lengths is None else cache.row_lengths.unsqueeze(-1)
        before = total - key_mask.sum(-1, keepdim=True)
    return before + key_mask.cumsum(-1) - 1
