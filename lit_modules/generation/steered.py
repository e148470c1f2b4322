"""Add steering vectors to the hidden states of a language model while it reads and generates.

Shape letters: B rows, T tokens of one call, W width of the model.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from lit_modules.functional.precision import widen
from lit_modules.layers.kv_cache import KVCache

SteeredPositions = Literal["prompt", "generated", "both"]


@dataclass(frozen=True, kw_only=True)
class SteeringVectors:
    """Vectors to add to the output of one layer."""

    layer: int  # index of the layer, 0 … depth − 1
    vectors: Tensor  # one vector for each row, (B, W)
    factor: float | Tensor = 1.0
    """Factor α of all vectors, or one factor for each row, (B,); 0 means no steering."""

    def select(self, rows: Sequence[int]) -> Self:
        """Take the vectors and factors of some rows, in the given order."""
        factor = self.factor[list(rows)] if isinstance(self.factor, Tensor) else self.factor
        return dataclasses.replace(self, vectors=self.vectors[list(rows)], factor=factor)

    def shifts(self) -> Tensor:
        """Compute what to add to each row, (B, W); exactly zero where the factor is 0."""
        vectors = widen(self.vectors)
        factors = torch.as_tensor(self.factor, dtype=torch.float64).to(vectors)
        factors = factors.expand(len(vectors)).unsqueeze(-1)  # (B, 1)
        return torch.where(factors == 0, 0, factors * vectors)


@dataclass(frozen=True, kw_only=True)
class RowSteering:
    """What steers one row of a batch."""

    layer: int  # index of the layer
    vector: Tensor  # (W,)
    factor: float = 1.0  # factor α of the vector; 0 means no steering


class SteeredRows:
    """The shifts of the rows in the current batch; see `steered`.

    Args:
        shifts: What to add to the hidden states of each row, (B, W).
        positions: Which tokens of a row to steer.
        prompt_lengths: Number of prompt tokens in each row; `None` until `follow` is called.
    """

    def __init__(
        self, shifts: Tensor, positions: SteeredPositions, prompt_lengths: Sequence[int] | None
    ) -> None:
        self._all = self._shifts = shifts
        self._positions = positions
        self._lengths = None if prompt_lengths is None else torch.tensor(prompt_lengths)

    def follow(self, rows: Sequence[int], prompt_lengths: Sequence[int]) -> None:
        """Set which rows the next call reads; pass this method to `generate` as `on_read`.

        Args:
            rows: Indices of the rows that are still being generated, in batch order.
            prompt_lengths: Number of prompt tokens of each row within the context.
        """
        self._shifts = self._all[list(rows)]
        self._lengths = torch.tensor(prompt_lengths)

    def shifted(self, states: Tensor, key_mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """Add the vector of each row to its steered positions.

        Args:
            states: Hidden states (B, T, W).
            key_mask: True for real tokens, (B, T); `None` if there is no padding.
            cache: Keys and values of earlier tokens and of these.

        Returns:
            Hidden states (B, T, W).

        Raises:
            ValueError: The number of rows is wrong, or the prompt lengths are unknown.
        """
        if len(states) != len(self._shifts):
            raise ValueError(f"the batch has {len(states)} rows, but there are {len(self._shifts)} vectors")
        shifts = self._shifts.to(states.device, states.dtype).unsqueeze(1)  # (B, 1, W)
        if self._positions == "both":
            return states + shifts
        if self._lengths is None:
            raise ValueError(f"steering {self._positions} tokens needs prompt_lengths")
        lengths = self._lengths.to(states.device).unsqueeze(-1)  # (B, 1)
        places = _positions(states, key_mask, cache)  # (B, T)
        chosen = places < lengths if self._positions == "prompt" else places >= lengths - 1
        return torch.where(chosen.unsqueeze(-1), states + shifts, states)


@contextmanager
def steered(
    network: Any,
    steering: SteeringVectors,
    *,
    positions: SteeredPositions = "both",
    prompt_lengths: Sequence[int] | None = None,
) -> Iterator[SteeredRows]:
    """Add `factor` times the vector of each row to the output of one layer, within a `with` block.

    A token gets the same vector with and without the cache, alone and in a batch. The hook is removed at the
    end, also after an error. If all factors are 0 there is no hook, so the outputs are bit-identical to the
    plain network.

        with steered(network, steering, positions="generated") as rows:
            generate(network, prompts, settings, on_read=rows.follow)

    Args:
        network: A `TransformerLM` that is not laid out for generation.
        steering: The layer, one vector for each row of a batch, and one factor or one for each row.
        positions: `prompt`: tokens of the prompt. `generated`: tokens that are followed by a
            generated token, from the last prompt token on. `both`: all tokens.
        prompt_lengths: Number of prompt tokens in each row, counted from the first real token. Not needed
            for `both` or if `follow` is called.

    Yields:
        An object that follows the rows of the batch.

    Raises:
        ValueError: The layer does not exist, or the vectors or factors have the wrong width or number.
    """
    layers = layers_of(network)
    check_layer(network, steering.layer)
    width = network.embedding.embedding_dim
    if steering.vectors.ndim != 2 or steering.vectors.shape[1] != width:
        raise ValueError(
            f"vectors have shape {tuple(steering.vectors.shape)}, expected (rows, {width}), the model's width"
        )
    if isinstance(steering.factor, Tensor) and steering.factor.shape != steering.vectors.shape[:1]:
        raise ValueError(
            f"factors have shape {tuple(steering.factor.shape)}, expected one factor for each of "
            f"{len(steering.vectors)} vectors"
        )
    if positions not in get_args(SteeredPositions):
        raise ValueError(
            f"positions is {positions!r}, expected one of {', '.join(map(repr, get_args(SteeredPositions)))}"
        )
    rows = SteeredRows(steering.shifts(), positions, prompt_lengths)
    if not torch.as_tensor(steering.factor).any():
        yield rows
        return

    def shift(module: nn.Module, inputs: Any, settings: dict[str, Any], states: Tensor) -> Tensor:
        return rows.shifted(states, settings.get("key_mask"), settings.get("cache"))

    handle = layers[steering.layer].register_forward_hook(shift, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


@contextmanager
def each_row_steered(
    network: Any, rows: Sequence[RowSteering], *, positions: SteeredPositions = "both"
) -> Iterator[Callable[[Sequence[int], Sequence[int]], None]]:
    """Steer each row of a batch at a layer, with a vector and a factor of its own; see `steered`.

        with each_row_steered(network, [happy, sad]) as follow:
            generate(network, prompts, settings, on_read=follow)

    Yields:
        The function to pass to `generate` as `on_read`.

    Raises:
        ValueError: A layer does not exist, or a vector has the wrong width.
    """
    vectors = torch.stack([row.vector for row in rows])  # (B, W)
    with ExitStack() as stack:
        hooked = []
        for layer in sorted({row.layer for row in rows}):
            factors = [row.factor if row.layer == layer else 0.0 for row in rows]
            steering = SteeringVectors(
                layer=layer, vectors=vectors, factor=torch.tensor(factors, dtype=torch.float64)
            )
            hooked.append(stack.enter_context(steered(network, steering, positions=positions)))

        def follow(active: Sequence[int], prompt_lengths: Sequence[int]) -> None:
            for one in hooked:
                one.follow(active, prompt_lengths)

        yield follow


def layers_of(network: Any) -> nn.ModuleList:
    """Return the layers of a decoder.

    Raises:
        ValueError: The network has none, or is laid out for generation.
    """
    layers = getattr(getattr(network, "trunk", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(
            f"a {type(network).__name__} has no layers with hidden states to read or change; "
            "expected a TransformerLM"
        )
    return layers


def check_layer(network: Any, layer: int) -> None:
    """Check that a decoder has a layer.

    Raises:
        ValueError: The layer does not exist.
    """
    depth = len(layers_of(network))
    if not 0 <= layer < depth:
        raise ValueError(f"layer {layer} is out of range, the model has 0 … {depth - 1}")


def _positions(states: Tensor, key_mask: Tensor | None, cache: KVCache | None) -> Tensor:
    """Return the position of each token in its row, (B, T); the position of padding is arbitrary."""
    batch, length, _ = states.shape
    if key_mask is None:
        key_mask = torch.ones(batch, length, dtype=torch.bool, device=states.device)
    before: Tensor | int = 0
    if cache is not None:  # it already counts the tokens of this call
        total = cache.length if cache.row_lengths is None else cache.row_lengths.unsqueeze(-1)
        before = total - key_mask.sum(-1, keepdim=True)
    return before + key_mask.cumsum(-1) - 1
