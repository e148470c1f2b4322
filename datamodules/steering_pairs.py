"""Pairs of a hidden state and its steering vector, as a LightningDataModule.

Shape letters: N pairs, D width of both vectors.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.base import PARTS, ResidentDataModule
from datamodules.configs.steering_pairs import SteeringPairsConfig
from datamodules.info import VectorPairInfo
from datamodules.loading.epoch_loader import mix_seed

Pairs = tuple[Tensor, Tensor]
SAMPLE = 5
"""Number of the random stream that draws the sample of training pairs; the synthetic pairs use 0 to 4."""
MANIFEST = {"model", "model_sha256", "template", "layers"}
"""Keys of the manifest of `experiments.extract`; metadata of other files is ignored."""


class SteeringPairsDataModule(ResidentDataModule):
    """Batches (h, z), float32 (B, D) each, on the device of the attached trainer."""

    config: SteeringPairsConfig
    info: VectorPairInfo

    def setup(self, stage: str | None = None) -> None:
        """Draw or read the pairs and split them; a second call does nothing.

        Raises:
            ValueError: The file is missing or malformed, or a split has too few pairs.
        """
        if self._info is not None:
            return
        config = self.config
        if config.from_stage is not None:
            raise ValueError(
                f"data.from_stage: {config.from_stage} works only in a chain of stages; set data.path"
            )
        source: dict[str, Any] = {}
        if config.path is None:
            parts = synthetic_pairs(config)
        else:
            parts, source = read_pairs(Path(config.path), config)
        states, targets = parts["train"] = sample(parts["train"], config)
        self._parts.update(parts)
        self._info = VectorPairInfo(
            input_shape=tuple(states.shape[1:]),
            mean=tuple(states.mean(0).tolist()),
            std=tuple(states.std(0).tolist()),
            target_scale=targets.square().mean().sqrt().item(),
            steering={**source, "mean": _mean_of_nonzero(targets)} if source else {},
            train_size=len(states),
            val_size=len(parts["val"][0]),
            test_size=len(parts["test"][0]),
        )


def sample(pairs: Pairs, config: SteeringPairsConfig) -> Pairs:
    """Take `data.train_fraction` of the pairs, at least two, in their order."""
    if config.train_fraction == 1:
        return pairs
    states, targets = pairs
    size = max(2, round(config.train_fraction * len(states)))
    generator = torch.Generator().manual_seed(mix_seed(config.data_seed, SAMPLE))
    rows = torch.randperm(len(states), generator=generator)[:size].sort().values
    return states[rows], targets[rows]


def synthetic_pairs(config: SteeringPairsConfig) -> dict[str, Pairs]:
    """Draw h ~ N(0, I) and z = h W + noise · ε, with one W for all splits.

    W, the training and validation pairs, and the test pairs have separate generators, so that changing one
    size does not change the other draws.
    """

    def normal(part: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(mix_seed(config.data_seed, part))
        return torch.randn(shape, generator=generator)

    def pairs(part: int, size: int) -> Pairs:
        states = normal(part, size, config.width)
        return states, states @ weight + config.noise * normal(part + 1, size, config.width)

    weight = normal(0, config.width, config.width)
    states, targets = pairs(1, config.size)
    return {
        "train": (states[config.val_size :], targets[config.val_size :]),
        "val": (states[: config.val_size], targets[: config.val_size]),
        "test": pairs(3, config.test_size or config.size),
    }


def read_pairs(path: Path, config: SteeringPairsConfig) -> tuple[dict[str, Pairs], dict[str, Any]]:
    """Read pairs and split them by the tensor `split` of the file, or else at random by the data seed.

    A file of `experiments.extract` holds several layers, (N, L, D); the manifest in its metadata names them.

    Args:
        path: A safetensors file with `h` and `z`, floating point (N, D) each, and optionally `split`,
            integers (N,): 0 training, 1 validation, 2 test.
        config: The sizes of the random split, and the layers to use.

    Returns:
        The splits, and for an extracted file its model, template and the two layers.

    Raises:
        ValueError: The file is missing or malformed, or a split has too few pairs.
    """
    tensors, manifest = read_tensors(path)
    source: dict[str, Any] = {}
    if manifest:
        tensors["h"] = _layer(tensors, "h", "input_layer", config.input_layer, manifest, path)
        tensors["z"] = _layer(tensors, "z", "target_layer", config.target_layer, manifest, path)
        source = {key: manifest[key] for key in ("model", "model_sha256", "template")}
        source |= {"input_layer": config.input_layer, "target_layer": config.target_layer}
    elif config.input_layer is not None:
        raise ValueError(f"{path} has no layers; leave out data.input_layer and data.target_layer")
    states, targets = (_matrix(tensors, name, path) for name in ("h", "z"))
    if states.shape != targets.shape:
        raise ValueError(
            f"{path} has h of shape {_shape(states)} and z of shape {_shape(targets)}; expected equal shapes "
            "N × D"
        )
    for name, tensor in (("h", states), ("z", targets)):
        if not tensor.isfinite().all():
            row = int((~tensor.isfinite()).any(1).nonzero()[0])
            raise ValueError(f"{path}: row {row} of {name} has a value that is not finite")
    part = tensors["split"] if "split" in tensors else _random_split(len(states), config, path)
    if part.shape != states.shape[:1] or part.is_floating_point():
        raise ValueError(
            f"{path} has split of shape {_shape(part)} in {part.dtype}; expected {len(states)} integers: "
            "0 training, 1 validation, 2 test"
        )
    splits: dict[str, Pairs] = {
        name: (states[part == code], targets[part == code]) for code, name in enumerate(PARTS)
    }
    for name, (some, _) in splits.items():
        if len(some) < 2:
            raise ValueError(f"{path} has {len(some)} pairs for {name}, expected at least 2")
    return splits, source


def read_tensors(
    path: Path, manifest_keys: Collection[str] = MANIFEST
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read all tensors of a safetensors file by name, and its manifest, empty if it lacks one of the keys.

    A file of `experiments.extract` or `experiments.steering` is verified by the checksum in its metadata.

    Raises:
        ValueError: The file is missing, not a safetensors file, or damaged.
    """
    check_ordinary(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; expected a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        manifest = json.loads(metadata.get("manifest", "{}"))
    except (SafetensorError, json.JSONDecodeError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    wanted = metadata.get("sha256")
    if wanted is not None and content_sha256(tensors, metadata.get("manifest", "")) != wanted:
        raise ValueError(f"{path} is damaged: its content does not match its sha256; make it again")
    return tensors, manifest if isinstance(manifest, dict) and manifest.keys() >= set(manifest_keys) else {}


def content_sha256(tensors: dict[str, Tensor], manifest: str) -> str:
    """Compute the digest of a manifest and of tensors, with their names, types and shapes."""
    digest = hashlib.sha256(manifest.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _layer(
    tensors: dict[str, Tensor],
    name: str,
    key: str,
    layer: int | None,
    manifest: dict[str, Any],
    path: Path,
) -> Tensor:
    """Select a layer of a tensor (N, L, D), (N, D)."""
    layers = manifest["layers"]
    if layer not in layers:
        raise ValueError(f"{path} has layers {', '.join(map(str, layers))}; data.{key} is {layer}")
    return _named(tensors, name, path)[:, layers.index(layer)]


def _mean_of_nonzero(targets: Tensor) -> list[float]:
    """Compute the mean vector over the prompts that are not neutral."""
    return targets[targets.square().sum(-1) > 0].mean(0).tolist()


def _matrix(tensors: dict[str, Tensor], name: str, path: Path) -> Tensor:
    tensor = _named(tensors, name, path)
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise ValueError(
            f"{path} has {name} of shape {_shape(tensor)} in {tensor.dtype}; expected floating point, N × D"
        )
    return tensor.float()


def _named(tensors: dict[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{path} has no {name}; it has {', '.join(sorted(tensors)) or 'nothing'}")
    return tensors[name]


def _random_split(size: int, config: SteeringPairsConfig, path: Path) -> Tensor:
    test_size = size // 5 if config.test_size is None else config.test_size
    if config.val_size + test_size > size - 2:
        raise ValueError(
            f"{path} has {size} pairs, too few for {config.val_size} validation and {test_size} test pairs; "
            "decrease data.val_size and data.test_size"
        )
    order = torch.randperm(size, generator=torch.Generator().manual_seed(mix_seed(config.data_seed)))
    part = torch.zeros(size, dtype=torch.int64)
    part[order[:test_size]] = 2
    part[order[test_size : test_size + config.val_size]] = 1
    return part


def _shape(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "a single number"
