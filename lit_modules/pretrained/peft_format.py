"""Adapters in the format of the library PEFT: adapter_config.json and adapter_model.safetensors.

PEFT names a layer as the adapted model does, so the adapter of a Llama has Hugging Face's names:

    trunk.layers.0.attention.query    base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight

The adapter of a network that only the suite has keeps our names; PEFT can add it to that network.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lit_modules.configs.adapter import LoRAConfig
from lit_modules.layers.attention import Attention
from lit_modules.layers.lora import LoRALinear, apply_lora, load_lora_state_dict
from lit_modules.pretrained.llama import HUGGINGFACE_NAMES
from lit_modules.pretrained.source_fields import Fields

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_HARMLESS = (
    *("auto_mapping", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform"),
    *("lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision", "target_modules"),
    *("task_type",),
)
"""Settings that don't change the logits. The names of the tensors tell which layers have an update."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter."""

    base: str  # the name of the frozen model
    base_sha256: str | None  # of its weights; None for an adapter that another program wrote
    rank: int
    alpha: float
    rank_stabilized: bool
    updates: Mapping[str, tuple[Tensor, Tensor]]  # A (r, D_in) and B (D_out, r) by PEFT's name of the layer
    where: str  # for messages


def own_names(network: nn.Module) -> dict[str, str]:
    """Map the name of each layer to itself."""
    return {name: name for name, _ in network.named_modules()}


def huggingface_names(depth: int) -> dict[str, str]:
    """Map our names of the layers of a Llama with `depth` layers to Hugging Face's."""
    names: dict[str, str] = {}
    for ours, theirs in HUGGINGFACE_NAMES.items():
        if "{}" in theirs:
            names |= {f"trunk.layers.{i}.{ours}": theirs.format(i) for i in range(depth)}
        else:
            names[ours] = theirs
    return names


def write_adapter(
    folder: Path, network: nn.Module, config: LoRAConfig, *, base: str, names: Mapping[str, str]
) -> None:
    """Write the updates of a network.

    Args:
        folder: Folder for the two files; created if missing.
        network: A network with LoRA layers.
        config: Their settings.
        base: Name of the frozen model.
        names: PEFT's name of each layer by ours.
    """
    updates = {name: layer for name, layer in network.named_modules() if isinstance(layer, LoRALinear)}
    tensors = {}
    for name, layer in updates.items():
        b = _reordered(layer.lora_b.detach(), network, name, names[name], to="half_split")
        tensors[f"{_PREFIX}{names[name]}.lora_A.weight"] = layer.lora_a.detach().cpu().contiguous()
        tensors[f"{_PREFIX}{names[name]}.lora_B.weight"] = b.cpu().contiguous()
    settings = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "target_modules": [names[name] for name in updates],
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / WEIGHTS, {"format": "pt", "base_sha256": config.base_sha256 or ""})


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
    rank, alpha = fields.integer("r"), fields.number("lora_alpha")
    adapter = Adapter(
        base=str(fields.raw("base_model_name_or_path")),
        base_sha256=sha256 or None,
        rank=rank,
        alpha=alpha,
        rank_stabilized=fields.flag("use_rslora", False),
        updates=_updates(tensors, rank, str(folder / WEIGHTS)),
        where=str(folder),
    )
    fields.finish(_HARMLESS)
    return adapter


def _updates(tensors: dict[str, Tensor], rank: int, where: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Pair the tensors A and B of each layer."""
    left, updates = dict(tensors), {}
    for name in tensors:
        layer = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        if name != f"{_PREFIX}{layer}.lora_A.weight":
            continue
        a, b = left.pop(name), left.pop(f"{_PREFIX}{layer}.lora_B.weight", None)
        if b is None or a.dim() != 2 or b.dim() != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise ValueError(f"{where}: {layer} has no pair of matrices of rank {rank}")
        updates[layer] = a, b
    if left or not updates:
        raise ValueError(f"{where}: tensor {next(iter(left), 'lora_A')} isn't part of a low-rank update")
    return updates


def add_adapter(network: nn.Module, adapter: Adapter) -> None:
    """Add the updates of an adapter to a network of the suite.

    Raises:
        ValueError: The network lacks a layer of the adapter, or has it with another shape.
    """
    layers = dict(network.named_modules())
    depth = sum(name.startswith("trunk.layers.") and name.count(".") == 2 for name in layers)
    ours = {theirs: name for name, theirs in huggingface_names(depth).items()} | own_names(network)
    names: list[str] = []
    state: dict[str, Tensor] = {}
    for theirs, (a, b) in adapter.updates.items():
        name = ours.get(theirs, theirs)
        if not isinstance(layers.get(name), nn.Linear):
            raise ValueError(f"{adapter.where}: the model {adapter.base} has no linear layer {theirs}")
        names.append(name)
        state[f"{name}.lora_a"] = a
        state[f"{name}.lora_b"] = _reordered(b, network, name, theirs, to="adjacent_pairs")
    try:
        apply_lora(
            network,
            names,
            rank=adapter.rank,
            alpha=adapter.alpha,
            rank_stabilized=adapter.rank_stabilized,
        )
        load_lora_state_dict(network, state)
    except ValueError as error:
        raise ValueError(f"{adapter.where} doesn't fit the model {adapter.base}: {error}") from None


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
