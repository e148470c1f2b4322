"""Low-rank adaptation (LoRA): a frozen linear layer plus a small trainable update.

    y = W x + b + s · B A dropout(x),   s = α/r or α/√r

A is (r, D_in) and random. B is (D_out, r) and zero, so that adaptation starts with the frozen layer (Hu et
al. 2022, section 4.1). With s = α/r the update shrinks as the rank grows; α/√r keeps its size (Kalajdzievski
2023, "rsLoRA").

                 x ──────────┬─────────────────┐
                             │              dropout
                          W, b (frozen)        A   (r, D_in)
                             │                 B   (D_out, r)
                             │                 × s
                             └────── + ────────┘
"""

import copy
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import check_probability
from lit_modules.layers.dropout import ElementDropout
from lit_modules.layers.linear import Linear, linear


class LoRALinear(nn.Module):
    """A frozen linear layer with a low-rank update; see the formula at the top of this file.

    `merge` stores W + s·BA separately and never changes W. So layers that share W are not affected, a saved
    state never contains the update twice, and `unmerge` is exact. Training mode unmerges.

    The update is computed by hand if the base is (`layers.linear.Linear`), otherwise by PyTorch.

    A and B are fp32 for a base in half precision, because small updates would be lost in rounding.

    Args:
        base: The layer to adapt; its weight and bias are frozen.
        rank: r.
        alpha: α.
        dropout: Probability of dropping an input of the update in training.
        rank_stabilized: Whether to scale by α/√r instead of α/r.

    Raises:
        ValueError: A rank below 1; a dropout rate outside [0, 1).
    """

    def __init__(
        self,
        base: nn.Linear,
        *,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        rank_stabilized: bool = False,
    ) -> None:
        super().__init__()
        check_probability("dropout", dropout)
        if rank < 1:
            raise ValueError(f"rank is {rank}, expected at least 1")
        self.base = base.requires_grad_(False)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.scale = alpha / (math.sqrt(rank) if rank_stabilized else rank)
        by_hand = isinstance(base, Linear)
        self.linear: Callable[..., Tensor] = linear if by_hand else F.linear
        self.dropout = ElementDropout(dropout) if by_hand else nn.Dropout(dropout)
        like = widen(base.weight.detach())
        self.lora_a = nn.Parameter(like.new_empty(rank, base.in_features))
        self.lora_b = nn.Parameter(like.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # like the weight of a linear layer
        self.merged_weight: Tensor | None
        self.register_buffer("merged_weight", None, persistent=False)
        self.register_load_state_dict_post_hook(_merge_again)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, D_in) to (…, D_out)."""
        if self.merged_weight is not None:
            return self.linear(x, self.merged_weight, self.base.bias)
        output = self.base(x)
        update = self.linear(self.dropout(x).to(self.lora_a.dtype), self.lora_a)  # (…, r)
        update = self.linear(update, self.lora_b)  # (…, D_out)
        return output + (self.scale * update).to(output.dtype)

    @property
    def weight(self) -> Tensor:
        """W + s·BA, (D_out, D_in), for code that reads the weight instead of calling the layer."""
        if self.merged_weight is not None:
            return self.merged_weight
        base = self.base.weight
        return (base.to(self.lora_a.dtype) + self.scale * self.lora_b @ self.lora_a).to(base.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the base."""
        return self.base.bias

    @property
    def merged(self) -> bool:
        """Whether the forward pass uses the merged weight, without dropout or gradients for A and B."""
        return self.merged_weight is not None

    @torch.no_grad()
    def merge(self) -> None:
        """Store W + s·BA as one weight for the forward pass."""
        self.merged_weight = None
        self.merged_weight = self.weight

    def unmerge(self) -> None:
        """Use the base and its update separately again."""
        self.merged_weight = None

    def train(self, mode: bool = True) -> "LoRALinear":
        """Set the mode; training mode unmerges, because a merged layer can't learn."""
        if mode:
            self.unmerge()
        return super().train(mode)

    def extra_repr(self) -> str:
        """Describe rank and scale."""
        return f"rank={self.lora_a.shape[0]}, scale={self.scale:g}"


def _merge_again(layer: LoRALinear, _: Any) -> None:
    if layer.merged:
        layer.merge()


def apply_lora(
    module: nn.Module,
    patterns: Sequence[str],
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    rank_stabilized: bool = False,
) -> list[str]:
    """Add low-rank updates to linear layers of a module in place, and freeze all other parameters.

    To train another part as well, such as a new head, call `requires_grad_(True)` on it afterwards.

    `patterns` are shell-style patterns of module names, such as `"*.attention.query"`. The other arguments
    are those of `LoRALinear`. Load pretrained weights first.

    Returns:
        The names of the adapted layers.

    Raises:
        ValueError: A pattern matches no linear layer, or a layer that has an update already.
    """
    adapted_prefixes = tuple(
        f"{name}." for name, layer in module.named_modules() if isinstance(layer, LoRALinear)
    )
    candidates = {
        name: layer
        for name, layer in module.named_modules(remove_duplicate=False)  # a shared layer has several names
        if name and isinstance(layer, nn.Linear | LoRALinear) and not name.startswith(adapted_prefixes)
    }
    chosen: dict[str, nn.Module] = {}
    for pattern in patterns:
        found = {name: layer for name, layer in candidates.items() if fnmatch.fnmatchcase(name, pattern)}
        if not found:
            raise ValueError(
                f"no linear layer matches {pattern!r}; there are {', '.join(candidates) or 'none'}"
            )
        chosen |= found
    adapted = [name for name, layer in chosen.items() if isinstance(layer, LoRALinear)]
    if adapted:
        raise ValueError(f"{', '.join(adapted)} has a low-rank update already")

    module.requires_grad_(False)
    adapters: dict[nn.Module, LoRALinear] = {}
    for name, layer in chosen.items():
        assert isinstance(layer, nn.Linear)
        if layer not in adapters:
            adapters[layer] = LoRALinear(
                layer, rank=rank, alpha=alpha, dropout=dropout, rank_stabilized=rank_stabilized
            ).train(layer.training)
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, adapters[layer])
    return list(chosen)


def scaled_copy(module: nn.Module, factor: float) -> nn.Module:
    """Copy a module with its low-rank updates multiplied by a factor: W + factor · s·BA.

    The copy shares all tensors with the module, so it needs no memory for weights. Neither should be trained
    or merged afterwards.

    Args:
        module: A module with low-rank updates that are not merged.
        factor: 0 gives the frozen module, 1 the adapted one.
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shared)
    for layer in copied.modules():
        if isinstance(layer, LoRALinear):
            layer.scale *= factor
    return copied


def lora_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return only the updates: each A and B by its name in the module.

    Rank and adapted layers follow from the result; α doesn't and comes from the config.
    """
    state = module.state_dict()
    return {name: state[name] for name in _adapter_names(module)}


def load_lora_state_dict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the result of `lora_state_dict` into a module with the same adapted layers.

    Args:
        module: The module; its other weights don't change. Merged layers are merged again.
        state: Each A and B by name.

    Raises:
        ValueError: Names or shapes that differ from those of the module.
    """
    own = lora_state_dict(module)
    if own.keys() != state.keys():
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        raise ValueError(f"the adapters don't fit the module: missing {missing}, unknown {unknown}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(state[name].shape)}, the module needs {tuple(tensor.shape)}"
            )
    module.load_state_dict(state, strict=False)


def _adapter_names(module: nn.Module) -> list[str]:
    return [
        f"{name}.{part}" if name else part
        for name, layer in module.named_modules()
        if isinstance(layer, LoRALinear)
        for part in ("lora_a", "lora_b")
    ]
