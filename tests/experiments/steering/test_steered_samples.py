import json
from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.language_models.opening import open_language_model
from experiments.sample.__main__ import main
from experiments.steering import steered_samples
from experiments.steering.states_manifest import weights_sha256
from experiments.steering.steered_samples import open_steered


@pytest.fixture(scope="module")
def steering(language_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A steering network trained on hidden states of the tiny language model."""
    from experiments.extract import main as extract

    folder = tmp_path_factory.mktemp("steering")
    prompts = folder / "animals"
    prompts.mkdir()
    texts = {
        "instantiations": "instantiation,family,keywords\ncat,animal,mat\ndog,animal,ran\n",
        "topics": "instantiation,split,topic,statement\n"
        + "".join(
            f"{name},{split},{word} {name},the {word}.\n"
            for name in ("cat", "dog")
            for split, words in (("train", "a b c"), ("validation", "d e"), ("test", "f g"))
            for word in words.replace("b", "on").replace("e", "at").replace("g", "to").split()
        ),
        "templates": "families,split,template\n*,seen,{topic}\n*,unseen,a {topic}\n",
        "completions": "for,side,use,completion\n"
        "cat,wanted,fit,mat\ncat,wanted,score,cat\ndog,wanted,fit,ran\n"
        "dog,wanted,score,dog\nanimal,unwanted,fit,sat\nanimal,unwanted,score,the\n",
    }
    for name, text in texts.items():
        (prompts / f"{name}.csv").write_text(text)
    states = folder / "states.safetensors"
    assert extract([str(language_run), str(prompts), "--layers", "0,1", "--output", str(states)]) == 0
    settings: dict[str, Any] = {
        "name": "tiny",
        "model": {"name": "steering", "hidden": 8},
        "data": {"name": "steering_pairs", "path": str(states), "input_layer": 1, "target_layer": 0},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
        "run_dir": str(folder / "run"),
    }
    return experiments.run(settings).run_dir


def test_answers_stand_side_by_side(
    language_run: Path, steering: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(language_run), "--steer", str(steering), "--prompt", "the cat", "--max-new-tokens", "5"]
    assert main([*arguments, "--prompt", "a dog", "--temperature", "0"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("unsteered: ") == shown.count("mean vector: ") == shown.count("learned: ") == 2
    assert main([*arguments, "--temperature", "0", "--json", "--alpha", "0"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["unsteered"] == record["mean vector"] == record["learned"]
    assert main([*arguments, "--temperature", "0", "--json", "--alpha", "300"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["unsteered"] == record["unsteered"]
    assert {other["mean vector"], other["learned"]} != {other["unsteered"]}


def test_each_prompt_has_its_own_factor(
    language_run: Path, steering: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts of different lengths, together and one by one."""
    options = [str(language_run), "--steer", str(steering), "--temperature", "0", "--max-new-tokens", "9"]
    prompts = [
        ["--prompt", text, f"--alpha={alpha}"]
        for text, alpha in (("the cat sat", 200), ("a", -300), ("the dog", 0))
    ]
    assert main([*options, "--json", *(word for prompt in prompts for word in prompt)]) == 0
    together = capsys.readouterr().out
    for prompt in prompts:
        assert main([*options, "--json", *prompt]) == 0
    assert together == capsys.readouterr().out
    steered = [json.loads(line)["learned"] != json.loads(line)["unsteered"] for line in together.splitlines()]
    assert steered == [True, True, False]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--samples", "2"], "--steer shows one answer of each kind"),
        (["--precision", "int8"], "--precision can be fp32 or bf16"),
        (["--precision", "bf16"], "if they are the same model, leave out --precision"),
    ],
)
def test_refuses_what_does_not_go_with_steering(
    more: list[str], said: str, language_run: Path, steering: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(language_run), "--steer", str(steering), "--prompt", "the", *more]) == 2
    assert said in capsys.readouterr().err


def test_the_model_is_read_as_the_network_learned_it(
    language_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        network = open_language_model(str(language_run), precision, laid_out=False).network
        source = {"model_sha256": weights_sha256(network)}
        monkeypatch.setattr(
            steered_samples, "open_steering", lambda checkpoint, source=source: (None, source)
        )
        for asked, expected in ((None, dtype), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
            opened = open_steered(str(language_run), ["steering.ckpt"], asked)
            assert opened.network.embedding.weight.dtype == expected


def test_refuses_what_is_no_steering_network(
    language_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(language_run), "--prompt", "the"]
    assert main([*arguments, "--steer", str(language_run)]) == 2
    assert "is not a steering network: its model is 'language_model'" in capsys.readouterr().err
    assert main([*arguments, "--steer", str(tmp_path)]) == 2
    assert "there is no checkpoint in" in capsys.readouterr().err
    assert main([*arguments, "--alpha", "2"]) == 2
    assert "name the vector with --steer" in capsys.readouterr().err


def test_refuses_a_network_of_synthetic_pairs(
    language_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "name": "synthetic",
        "model": {"name": "steering", "hidden": 4},
        "data": {"name": "steering_pairs", "width": 16, "size": 40, "val_size": 8},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
        "run_dir": str(tmp_path / "run"),
    }
    experiments.run(settings)
    assert main([str(language_run), "--prompt", "the", "--steer", str(tmp_path / "run")]) == 2
    assert "was not trained on pairs of a language model" in capsys.readouterr().err
