"""Read Hugging Face checkpoints: a folder with config.json and safetensors files."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lit_modules.pretrained.gpt2 import gpt2_of_config
from lit_modules.pretrained.llama import Family, llama_of_config
from lit_modules.pretrained.source_fields import Fields, Pretrained, Tensors

_READERS: dict[str, Callable[[Fields, Tensors], Pretrained]] = {
    "gpt2": gpt2_of_config,
    **{family: partial(llama_of_config, family=family) for family in get_args(Family)},
}


def read_folder(folder: Path) -> Pretrained:
    """Read a checkpoint. Its dropout rates are ignored, because they only affect training.

    A text ends at the end tokens of config.json and those of generation_config.json, if there is one.

    Args:
        folder: Contains config.json, and model.safetensors or model.safetensors.index.json with its shards.

    Raises:
        ValueError: A file is missing, truncated or invalid; a setting or a tensor isn't supported.
    """
    path = folder / "config.json"
    fields = Fields(_read_json(path), str(path))
    kind = fields.choice("model_type", _READERS)
    for switch in ("add_cross_attention", "is_encoder_decoder"):
        fields.choice(switch, (False,), False)
    fields.choice("pruned_heads", ({},), {})
    ends = _ids(fields.raw("eos_token_id"))
    model = _READERS[kind](fields, Tensors(_read_tensors(folder), str(folder)))
    generation = folder / "generation_config.json"
    if generation.is_file():
        ends |= _ids(_read_json(generation).get("eos_token_id"))
    model.end_ids = tuple(sorted(ends))
    return model


def _ids(value: Any) -> set[int]:
    """Return the tokens of a setting that is one token, a list of tokens, or null."""
    return {i for i in (value if isinstance(value, list) else [value]) if type(i) is int}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} isn't JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} contains a {type(values).__name__}, expected a mapping")
    return values


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint from one file or from shards."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return _read_safetensors(single)
    if not index.is_file():
        raise ValueError(
            f"{folder} has no model.safetensors and no {index.name}; other weight formats aren't supported"
        )
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index}: weight_map is missing or isn't a mapping of tensors to files")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{index} names {name!r}, expected a .safetensors file in the same folder")
        tensors |= _read_safetensors(folder / name)
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise ValueError(f"{index} lists tensor {missing[0]}, but {places[missing[0]]} doesn't contain it")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is a truncated or invalid safetensors file: {error}") from None
