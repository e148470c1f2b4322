"""A manifest comes back from its file, and tells files apart that were made of different things."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from experiments.errors import RunError, UserError
from experiments.steering.states_manifest import (
    Manifest,
    check_manifest,
    check_split,
    examples_sha256,
    read_manifest,
    save_with_manifest,
    weights_sha256,
)
from lit_modules.generation.hidden_states import ForcedAnswers

MADE = Manifest(
    model="m",
    model_sha256="0" * 64,
    prompts="p",
    prompts_sha256="1" * 64,
    template="chat",
    layers=(1, 2),
    position="last",
)


def test_a_manifest_comes_back_with_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "new" / "states.safetensors"
    states = torch.arange(6.0).view(1, 2, 3)
    save_with_manifest(path, {"h": states}, MADE)
    assert read_manifest(path) == MADE
    torch.testing.assert_close(load_file(path)["h"], states)
    check_manifest(path, MADE)
    assert [found.name for found in path.parent.iterdir()] == ["states.safetensors"]


@pytest.mark.parametrize("at", [-1, -20])
def test_damaged_numbers_are_refused(tmp_path: Path, at: int) -> None:
    path = tmp_path / "states.safetensors"
    save_with_manifest(path, {"h": torch.ones(3, 4), "split": torch.zeros(3, dtype=torch.uint8)}, MADE)
    check_split(path, [0, 0, 0])
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged: its content does not match its sha256"):
        check_split(path, [0, 0, 0])


def test_a_failed_write_leaves_nothing(tmp_path: Path, file_size_limit: Callable[[int], None]) -> None:
    file_size_limit(100_000)
    path = tmp_path / "new" / "states.safetensors"
    with pytest.raises(RunError, match=r"^cannot write .*/states\.safetensors: .*File too large"):
        save_with_manifest(path, {"h": torch.ones(100_000)}, MADE)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_sha256": "2" * 64}, r"another model: m \(000000000000\), not m \(222222222222\); remove"),
        ({"prompts_sha256": "2" * 64}, r"other prompts or answers: p \(111111111111\), not p \(222222222222"),
        ({"template": "plain"}, "made with template chat, not plain; remove it, or choose another file"),
        ({"layers": (2, 1)}, "made with layers 1, 2, not 2, 1"),
        ({"position": "mean"}, "made with position last, not mean"),
    ],
)
def test_refuses_a_file_that_was_made_of_something_else(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "states.safetensors"
    save_with_manifest(path, {"h": torch.ones(1)}, MADE)
    with pytest.raises(UserError, match=said):
        check_manifest(path, dataclasses.replace(MADE, **change))
    check_manifest(path, dataclasses.replace(MADE, model="renamed", prompts="renamed"))


@pytest.mark.parametrize("manifest", ["", "[1]", "{", '{"layers": 3}', '{"layers": [3]}'])
def test_refuses_a_file_of_another_kind(manifest: str, tmp_path: Path) -> None:
    path = tmp_path / "states.safetensors"
    for metadata in ({"manifest": manifest}, None):
        save_file({"h": torch.ones(1)}, path, metadata=metadata)
        with pytest.raises(UserError, match="is not a file of hidden states"):
            read_manifest(path)


def test_weights_are_told_apart_by_value_name_shape_and_type() -> None:
    layer = nn.Linear(2, 2)
    found = {weights_sha256(layer), weights_sha256(nn.Sequential(layer)), weights_sha256(layer.bfloat16())}
    with torch.no_grad():
        layer.bias[0] += 1
    assert len(found | {weights_sha256(layer)}) == 4
    flat, tall = nn.Module(), nn.Module()
    flat.register_buffer("w", torch.ones(1, 2))
    tall.register_buffer("w", torch.ones(2, 1))
    assert weights_sha256(flat) != weights_sha256(tall)


def test_examples_are_known_by_their_tokens_in_order() -> None:
    some = ForcedAnswers(prompt=[1, 2], wanted=[[3]], unwanted=[[4, 5]])
    other = dataclasses.replace(some, wanted=[[4, 5]], unwanted=[[3]])
    text = b"[1, 2] [[3]] [[4, 5]]\n[1, 2] [[4, 5]] [[3]]\n"
    assert examples_sha256([some, other]) == hashlib.sha256(text).hexdigest()
    assert examples_sha256([other, some]) != examples_sha256([some, other])
