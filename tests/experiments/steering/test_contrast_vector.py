"""Vectors of contrasting sentences: what they are, and which files are refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_language_model
from experiments.steering.contrast_vector import ContrastVector, make_vector, read_vector, save_vector
from tests.chat_templates import TEMPLATES

PLUS, MINUS = ["I am so happy!", "Joy"], ["I am sad.", "What a dull, grey day it is.", "Oh no"]


@pytest.fixture(scope="module")
def model(write_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = write_llama(
        tmp_path_factory.mktemp("vector") / "llama", max_position_embeddings=200, initializer_range=0.3
    )
    (folder / "chat_template.jinja").write_text(TEMPLATES["smollm2"], encoding="utf-8")
    return open_language_model(str(folder), laid_out=False)


@pytest.fixture
def made(model: LoadedModel) -> ContrastVector:
    return make_vector(model, plus=PLUS, minus=MINUS, layer=1)[0]


@torch.no_grad()
def test_it_is_the_difference_of_mean_states_of_answers(model: LoadedModel) -> None:
    """Each sentence alone, as an answer, without a cache."""
    assert model.chat is not None
    start = [*model.chat.opening(), *model.chat.answer_start()]

    def state(text: str) -> torch.Tensor:
        states: list[torch.Tensor] = []
        ids = [*start, *model.tokenizer.encode(text)]
        model.network(torch.tensor([ids]), hidden_states=states)
        return states[2][0, len(start) :].mean(0)

    made, norm = make_vector(model, plus=PLUS, minus=MINUS, layer=1)
    expected = sum(map(state, PLUS)) / 2 - sum(map(state, MINUS)) / 3  # type: ignore[operator]
    torch.testing.assert_close(made.vector, expected, rtol=1e-4, atol=1e-5)
    assert made.vector.norm() > 0.1
    before: list[torch.Tensor] = []
    model.network(torch.tensor([start]), hidden_states=before)
    assert norm == pytest.approx(float(before[2][0, -1].norm()), rel=1e-5)


def test_a_file_gives_the_vector_back(made: ContrastVector, tmp_path: Path) -> None:
    path = tmp_path / "happy.safetensors"
    save_vector(path, made)
    found = read_vector(path)
    assert found.origin == made.origin
    torch.testing.assert_close(found.vector, made.vector, rtol=0, atol=0)
    assert found.origin.plus == tuple(PLUS)
    assert list(load_file(path)) == ["vector"]


def test_a_model_without_a_chat_format_reads_plain_sentences(language_run: Path) -> None:
    model = open_language_model(str(language_run), laid_out=False)
    made, _ = make_vector(model, plus=["the cat"], minus=["a dog"], layer=0)
    assert made.vector.shape == (16,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": 2}, "layer 2 is out of range, the model has 0 … 1"),
        ({"layer": -1}, "layer -1 is out of range"),
        ({"plus": ["x" * 200]}, "more than the context length 200"),
        ({"plus": MINUS}, "the vector is zero: --plus and --minus have the same sentences"),
    ],
)
def test_what_makes_no_vector_is_refused(model: LoadedModel, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_vector(model, **{"plus": PLUS, "minus": MINUS, "layer": 1, **changes})


def forged(made: ContrastVector, path: Path, vector: torch.Tensor | None = None, **values: Any) -> Path:
    """Write a file with other content, without a checksum."""
    origin = {**dataclasses.asdict(made.origin), **values}
    tensors = {"vector": made.vector if vector is None else vector}
    save_file(tensors, path, metadata={"manifest": json.dumps(origin)})
    return path


@pytest.mark.parametrize(
    "values",
    [
        {"layer": "1"},
        {"layer": True},
        {"plus": 5},
        {"minus": [["x"]]},
        {"precision": "int4"},
        {"model": None},
    ],
)
def test_a_file_of_other_values_is_no_vector(
    made: ContrastVector, tmp_path: Path, values: dict[str, Any]
) -> None:
    with pytest.raises(
        UserError, match=r"is not a steering vector; make one with experiments\.steering vector"
    ):
        read_vector(forged(made, tmp_path / "forged.safetensors", **values))


def test_a_damaged_or_foreign_file_is_named(made: ContrastVector, tmp_path: Path) -> None:
    path = tmp_path / "happy.safetensors"
    with pytest.raises(UserError, match=r"there is no file .*happy\.safetensors"):
        read_vector(path)
    save_vector(path, made)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\1\0")
    with pytest.raises(UserError, match=r"happy\.safetensors is damaged"):
        read_vector(path)
    path.write_bytes(content[:40])
    with pytest.raises(UserError, match="is not a safetensors file"):
        read_vector(path)
    save_file({"vector": made.vector}, path)
    with pytest.raises(UserError, match="is not a steering vector"):
        read_vector(path)
    for vector in (torch.ones(2, 3), torch.tensor([1.0, torch.nan])):
        with pytest.raises(UserError, match="expected one row of finite numbers"):
            read_vector(forged(made, path, vector))
