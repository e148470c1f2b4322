"""Extraction compared with reading each prompt and answer alone, through our own model and a library's."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from datamodules.prompts.prompt_sets import PromptSet, read_prompt_set
from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_language_model
from experiments.steering.extraction import encode_prompt, extract
from experiments.steering.states_manifest import read_manifest


@pytest.fixture
def prompts(animals: Path) -> PromptSet:
    return read_prompt_set(animals)


@pytest.fixture(scope="module")
def model(language_run: Path) -> LoadedModel:
    opened = open_language_model(str(language_run), laid_out=False)
    opened.network.context_length = 64  # rotary positions have no end
    return opened


@pytest.mark.parametrize("position", ["last", "mean"])
def test_a_file_holds_what_each_prompt_and_answer_gives_alone(
    model: LoadedModel, prompts: PromptSet, tmp_path: Path, position: str
) -> None:
    path = tmp_path / "new" / "states.safetensors"
    extract(model, prompts, path, layers=[1, 0], position=position, batch_size=4)  # type: ignore[arg-type]
    found = load_file(path)
    count = len(prompts.prompts)
    assert found["h"].shape == found["z"].shape == (count, 2, 16)
    assert found["split"].tolist() == [
        {"train": 0, "validation": 1, "test": 2}[p.split] for p in prompts.prompts
    ]
    assert found["seen"].tolist() == [int(p.seen) for p in prompts.prompts]

    @torch.no_grad()
    def read(text: list[int]) -> torch.Tensor:
        states: list[torch.Tensor] = []
        model.network(torch.tensor([text]), hidden_states=states)
        return torch.stack([states[2][0], states[1][0]], dim=1)  # layers 1 and 0

    for row, prompt in enumerate(prompts.prompts):
        ids = model.tokenizer.encode(f"{prompt.text}\n")
        torch.testing.assert_close(found["h"][row], read(ids)[-1], rtol=1e-4, atol=1e-5)
        sides = []
        for side in ("wanted", "unwanted"):
            answers = []
            for text in prompts.completions(prompt.instantiation, side, "fit"):  # type: ignore[arg-type]
                states = read([*ids, *model.tokenizer.encode(text)])[len(ids) :]
                answers.append(states[-1] if position == "last" else states.mean(0))
            sides.append(torch.stack(answers).mean(0) if answers else torch.zeros(2, 16))
        torch.testing.assert_close(found["z"][row], sides[0] - sides[1], rtol=1e-4, atol=1e-5)
    assert not found["z"][[p.family == "neutral" for p in prompts.prompts]].any()


def test_answers_take_turns(model: LoadedModel, prompts: PromptSet, tmp_path: Path) -> None:
    made = []
    for answers in (0, 1, 2):
        path = tmp_path / f"{answers}.safetensors"
        extract(model, prompts, path, layers=[0], answers=answers)
        made.append(load_file(path)["z"])
    torch.testing.assert_close(made[0], made[2])
    assert not torch.allclose(made[0], made[1])
    cats = [row for row, p in enumerate(prompts.prompts) if p.instantiation == "cat"]
    dogs = [row for row, p in enumerate(prompts.prompts) if p.instantiation == "dog"]
    torch.testing.assert_close(made[0][dogs], made[1][dogs])  # they have one answer
    assert (made[0][cats] - made[1][cats]).abs().sum((1, 2)).min() > 0


def test_a_file_is_used_again_and_refused_when_made_of_something_else(
    model: LoadedModel, prompts: PromptSet, tmp_path: Path
) -> None:
    path = tmp_path / "states.safetensors"
    manifest = extract(model, prompts, path, layers=[0, 1])
    assert read_manifest(path) == manifest
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["manifest"])["layers"] == [0, 1]
    written = path.stat().st_mtime_ns
    assert extract(model, prompts, path, layers=[0, 1]) == manifest
    assert path.stat().st_mtime_ns == written
    assert list(tmp_path.glob(".*")) == []
    for settings, said in (
        ({"layers": [1, 0]}, "made with layers 0, 1, not 1, 0; remove it"),
        ({"layers": [0, 1], "position": "mean"}, "made with position last, not mean"),
        ({"layers": [0, 1], "answers": 1}, "made from other prompts or answers: animals"),
    ):
        with pytest.raises(UserError, match=said):
            extract(model, prompts, path, **settings)  # type: ignore[arg-type]
    moved = tuple(
        dataclasses.replace(p, split="validation" if p.split == "train" else "train")
        if p.split != "test"
        else p
        for p in prompts.prompts
    )
    with pytest.raises(UserError, match="was made with other splits of the prompts; remove it"):
        extract(model, dataclasses.replace(prompts, prompts=moved), path, layers=[0, 1])
    network = model.network
    with torch.no_grad():
        network.head.weight[0, 0] += 1
    try:
        with pytest.raises(UserError, match=r"was made from another model.*remove it, or choose"):
            extract(model, prompts, path, layers=[0, 1])
    finally:
        with torch.no_grad():
            network.head.weight[0, 0] -= 1


def test_a_file_of_another_kind_is_not_overwritten(
    model: LoadedModel, prompts: PromptSet, tmp_path: Path
) -> None:
    save_file({"h": torch.ones(2, 2)}, tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("important")
    for name in ("plain", "text"):
        path = tmp_path / f"{name}.safetensors"
        before = path.read_bytes()
        with pytest.raises(UserError, match=f"{name}.safetensors is not a file of hidden states"):
            extract(model, prompts, path, layers=[0])
        assert path.read_bytes() == before


def test_refuses_what_the_model_can_not_read(model: LoadedModel, prompts: PromptSet, tmp_path: Path) -> None:
    path = tmp_path / "states.safetensors"
    with pytest.raises(UserError, match=r"layer 2 is out of range, the model has 0 … 1"):
        extract(model, prompts, path, layers=[2])
    with pytest.raises(UserError, match="the model has no chat format; use the template plain"):
        extract(model, prompts, path, layers=[0], template="chat")
    short = dataclasses.replace(model, network=shorter(model))
    with pytest.raises(UserError, match="tokens, more than the context length 4"):
        extract(short, prompts, path, layers=[0])
    strange = dataclasses.replace(prompts.prompts[0], text="§")
    with pytest.raises(UserError, match="§"):
        extract(model, dataclasses.replace(prompts, prompts=(strange,)), path, layers=[0])
    assert not path.exists()


def shorter(model: LoadedModel) -> torch.nn.Module:
    import copy

    network = copy.copy(model.network)
    network.context_length = 4
    return network


def test_a_prompt_is_put_as_the_model_was_trained_to_read_it(model: LoadedModel) -> None:
    chatty = dataclasses.replace(model, chat=lambda text: [1, 2, *model.tokenizer.encode(text)])
    assert encode_prompt(chatty, "a cat", "chat") == [1, 2, *model.tokenizer.encode("a cat")]
    assert encode_prompt(chatty, "a cat", "plain") == model.tokenizer.encode("a cat\n")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_opens_models_whose_layers_can_be_read(language_run: Path, precision: str) -> None:
    opened = open_language_model(str(language_run), precision, laid_out=False)
    assert len(opened.network.trunk.layers) == 2
    assert not hasattr(open_language_model(str(language_run)).network, "trunk")
