"""Adapters in the format of the library PEFT: adapter_config.json and adapter_model.safetensors.

PEFT names a layer as the adapted model does, so the adapter of a pretrained model has Hugging Face's names:

    trunk.layers.0.attention.query    base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight

The adapter of a network that only the suite has keeps our names; PEFT can add it to that network.

Hugging Face's GPT-2 has query, key and value in one layer, `c_attn`. Our three updates are exactly one update
of that layer, and its rank is the sum of their ranks:

    A = (A_q; A_k; A_v),  B = diag(B_q, B_k, B_v)

In the other direction, query, key and value have the same A, and each has a third of the rows of B. A row of
A whose column of B is zero is left out, so our updates come back as they were.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lit_modules.configs.adapter import LoRAConfig
from lit_modules.layers.attention import Attention
from lit_modules.layers.lora import LoRALinear
from lit_modules.pretrained import gpt2, llama
from lit_modules.pretrained.source_fields import Fields, shorten

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_HARMLESS = (
    *("auto_mapping", "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern"),
    *("layers_to_transform", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size"),
    *("revision", "target_modules", "task_type"),
)
"""Settings that don't change the logits. The names of the tensors tell which layers have an update."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """The low-rank update s · B A of one layer of PEFT's."""

    a: Tensor  # (r, D_in)
    b: Tensor  # (D_out, r)
    scale: float


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter."""

    base: str  # the name of the frozen model
    base_sha256: str | None  # of its weights; None for an adapter that another program wrote
    updates: Mapping[str, Update]  # by PEFT's name of the layer
    where: str  # for messages


def _is_gpt2(network: nn.Module) -> bool:
    """Return whether a pretrained network is a GPT-2; the other families have rotary positions."""
    return any(name == "positions.table" for name, _ in network.named_modules())


def _huggingface_parts(network: nn.Module) -> dict[str, list[str]]:
    """Return our layers that each layer of Hugging Face's network consists of; usually it is one."""
    depth = sum(re.fullmatch(r"trunk\.layers\.\d+", name) is not None for name, _ in network.named_modules())
    parts: dict[str, list[str]] = {}
    for ours, theirs in (gpt2 if _is_gpt2(network) else llama).HUGGINGFACE_NAMES.items():
        if "{}" not in theirs:
            parts[theirs] = [ours]
            continue
        for i in range(depth):
            parts.setdefault(theirs.format(i), []).append(f"trunk.layers.{i}.{ours}")
    return parts


def write_adapter(
    folder: Path, network: nn.Module, config: LoRAConfig, *, base: str, huggingface: bool
) -> None:
    """Write the updates of a network.

    Args:
        folder: Folder for the two files; created if missing.
        network: A network with LoRA layers.
        config: Their settings.
        base: Name of the frozen model.
        huggingface: Whether to use Hugging Face's names of the layers, for a model that has them.
    """
    layers = dict(network.named_modules())
    parts = _huggingface_parts(network) if huggingface else {name: [name] for name in layers}
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for theirs, ours in parts.items():
        if not any(isinstance(layers.get(name), LoRALinear) for name in ours):
            continue
        pairs = [_matrices(network, name, theirs) for name in ours]
        tensors[f"{_PREFIX}{theirs}.lora_A.weight"] = torch.cat([a for a, _ in pairs])
        tensors[f"{_PREFIX}{theirs}.lora_B.weight"] = torch.block_diag(*(b for _, b in pairs))
        ranks[theirs] = sum(len(a) for a, _ in pairs)
    other_ranks = {name: rank for name, rank in ranks.items() if rank != config.rank}
    growth = 0.5 if config.rank_stabilized else 1.0  # of alpha with the rank, for the same scale
    settings = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": config.rank,
        "rank_pattern": other_ranks,
        "lora_alpha": config.alpha,
        "alpha_pattern": {
            name: config.alpha * (rank / config.rank) ** growth for name, rank in other_ranks.items()
        },
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "target_modules": list(ranks),
        "fan_in_fan_out": huggingface and _is_gpt2(network),  # its weights are transposed
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / WEIGHTS, {"format": "pt", "base_sha256": config.base_sha256 or ""})


def _matrices(network: nn.Module, name: str, theirs: str) -> tuple[Tensor, Tensor]:
    """Return A and B of our layer `name`; they have rank 0 if it has no update."""
    layer: Any = network.get_submodule(name)
    if isinstance(layer, LoRALinear):
        b = _reordered(layer.lora_b.detach(), network, name, theirs, to="half_split")
        return layer.lora_a.detach().cpu(), b.cpu()
    return torch.empty(0, layer.in_features), torch.empty(layer.out_features, 0)


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter of PEFT or of the suite.

    Raises:
        ValueError: A file is missing or damaged, or a setting isn't supported.
    """
    path = folder / SETTINGS
    try:
        values = json.loads(path.read_bytes())
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sha256 = (file.metadata() or {}).get("base_sha256")
    except OSError as error:
        raise ValueError(f"{folder}: an adapter file can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{folder}: an adapter file is damaged: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} contains a {type(values).__name__}, expected a mapping")
    fields = Fields({key: value for key, value in values.items() if value not in (False, {}, [])}, str(path))
    fields.choice("peft_type", ("LORA",))
    fields.choice("bias", ("none",), "none")
    fields.choice("init_lora_weights", (True, "gaussian"), True)  # others change the frozen weights
    base = str(fields.raw("base_model_name_or_path"))
    rank = _of_layer(fields, fields.integer("r"), "rank_pattern")
    alpha = _of_layer(fields, fields.number("lora_alpha"), "alpha_pattern")
    rank_stabilized = fields.flag("use_rslora", False)
    fields.finish(_HARMLESS)
    updates = {
        layer: Update(a=a, b=b, scale=alpha(layer) / (math.sqrt(len(a)) if rank_stabilized else len(a)))
        for layer, (a, b) in _pairs(tensors, rank, str(folder / WEIGHTS)).items()
    }
    return Adapter(base=base, base_sha256=sha256 or None, updates=updates, where=str(folder))


def _pairs(
    tensors: Mapping[str, Tensor], rank: Callable[[str], float], where: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Pair the tensors A and B of each layer; `rank` gives the rank of a layer."""
    left, pairs = dict(tensors), {}
    for name in tensors:
        layer = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        if name != f"{_PREFIX}{layer}.lora_A.weight":
            continue
        a, b = left.pop(name), left.pop(f"{_PREFIX}{layer}.lora_B.weight", None)
        r = rank(layer)
        if b is None or a.dim() != 2 or b.dim() != 2 or a.shape[0] != r or b.shape[1] != r:
            raise ValueError(f"{where}: {layer} has no pair of matrices of rank {r:g}")
        pairs[layer] = a, b
    if left or not pairs:
        raise ValueError(f"{where}: tensor {next(iter(left), 'lora_A')} isn't part of a low-rank update")
    return pairs


def _of_layer(fields: Fields, default: float, key: str) -> Callable[[str], float]:
    """Take the numbers of some layers, and return the function that gives the number of a layer by its name.

    PEFT takes the first key that ends the name. It also takes regular expressions, which are refused.
    """
    values = fields.raw(key) or {}
    if not isinstance(values, dict) or not all(re.fullmatch(r"[\w.]+", end) for end in values):
        raise ValueError(
            f"{fields.where}: {key} = {shorten(values)} isn't implemented, only numbers by the ends of names"
        )
    checked = Fields(values, f"{fields.where}: {key}")
    numbers = {f".{end}": checked.number(end) for end in values}
    return lambda layer: next((n for end, n in numbers.items() if f".{layer}".endswith(end)), default)


def add_adapter(network: nn.Module, adapter: Adapter) -> None:
    """Add the updates of an adapter to a network of the suite, and freeze its other weights.

    Raises:
        ValueError: The network lacks a layer of the adapter, or has it with another shape.
    """
    network.requires_grad_(False)
    layers, parts = dict(network.named_modules()), _huggingface_parts(network)
    for theirs, update in adapter.updates.items():
        names = parts.get(theirs, [theirs])
        if not all(isinstance(layers.pop(name, None), nn.Linear) for name in names):  # each layer once
            raise ValueError(f"{adapter.where}: the model {adapter.base} has no linear layer {theirs}")
        try:
            for name, part in zip(names, _split(update, len(names)), strict=True):
                _add_update(network, name, theirs, part)
        except ValueError as error:
            raise ValueError(f"{adapter.where} doesn't fit the model {adapter.base}: {error}") from None


def _split(update: Update, count: int) -> list[Update]:
    """Split the update of a layer among its parts; each keeps only the rows of A that it uses."""
    if count == 1:
        return [update]
    parts = []
    for b in update.b.tensor_split(count):
        used = b.any(dim=0)
        parts.append(Update(a=update.a[used], b=b[:, used], scale=update.scale))
    return parts


def _add_update(network: nn.Module, name: str, theirs: str, update: Update) -> None:
    """Add an update to our layer `name`; one of rank 0 changes nothing."""
    base: Any = network.get_submodule(name)
    rank, found = len(update.a), (len(update.b), update.a.shape[1])
    if found != (base.out_features, base.in_features):
        raise ValueError(
            f"the update of {name} has {found[0]} outputs and {found[1]} inputs, the layer has "
            f"{base.out_features} and {base.in_features}"
        )
    if rank == 0:
        return
    layer = LoRALinear(base, rank=rank, alpha=update.scale * rank).train(base.training)
    with torch.no_grad():
        layer.lora_a.copy_(update.a)
        layer.lora_b.copy_(_reordered(update.b, network, name, theirs, to="adjacent_pairs"))
    network.set_submodule(name, layer)


def _reordered(b: Tensor, network: nn.Module, ours: str, theirs: str, *, to: str) -> Tensor:
    """Reorder the rows of B for a query or key whose rotary layout differs from Hugging Face's.

    A GGUF file has adjacent pairs: rows 2i and 2i + 1 of a head are rows i and i + D/2 of `half_split`.
    """
    parent, _, child = ours.rpartition(".")
    attention: Any = network.get_submodule(parent)
    if ours == theirs or child not in ("query", "key") or not isinstance(attention, Attention):
        return b
    if attention.rotary is None or attention.rotary.layout == "half_split":
        return b
    heads = (-1, attention.head_dim // 2, 2) if to == "half_split" else (-1, 2, attention.head_dim // 2)
    return b.unflatten(0, heads).transpose(1, 2).flatten(0, 2)
