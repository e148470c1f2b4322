"""The command that makes a vector, and what its vector does in `experiments.sample`."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.sample.__main__ import main as sample
from experiments.steering.__main__ import main
from experiments.steering.contrast_vector import read_vector, save_vector
from tests.chat_templates import TEMPLATES

SENTENCES = ["--plus", "I am so happy!", "--plus", "Joy", "--minus", "I am so sad."]


@pytest.fixture(scope="module")
def chat_model(write_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_llama(
        tmp_path_factory.mktemp("steering") / "llama", max_position_embeddings=300, initializer_range=0.3
    )
    (folder / "chat_template.jinja").write_text(TEMPLATES["smollm2"], encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def vectors(chat_model: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of two vectors of different layers."""
    folder = tmp_path_factory.mktemp("vectors")
    files = [str(folder / f"{name}.safetensors") for name in ("happy", "calm")]
    for layer, file in enumerate(files):
        text = f"word {layer}"
        options = ["--layer", str(layer), "-o", file, "--precision", "fp32", "--plus", text]
        assert main(["vector", chat_model, *SENTENCES, *options]) == 0
    return files


def answers(capsys: pytest.CaptureFixture[str], model: str, *options: str) -> list[dict[str, Any]]:
    assert sample([model, "--json", "--max-new-tokens", "12", *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_command_makes_a_vector_and_prints_norms(
    chat_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "happy.safetensors"
    arguments = ["vector", chat_model, *SENTENCES, "--layer", "1", "-o", str(file)]
    for _ in range(2):  # the second time the file is written again
        assert main(arguments) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{file} written: {chat_model} in ")
        assert first.endswith(", layer 1")
        assert second.startswith("  norm of the vector ")
    file.write_bytes(b"something else")
    assert main(arguments) == 2
    assert "exists and is not a steering vector: choose another name" in capsys.readouterr().err
    assert file.read_bytes() == b"something else"


def test_prompts_are_steered_together_as_one_by_one(
    chat_model: str, vectors: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts of different lengths, each with its own vector and factor, without and with steering."""
    texts, alphas = ["Hi", "How are you today?", "Tell me more about it."], ["2", "0", "-1.5"]
    files = [vectors[0], vectors[1], vectors[1]]

    def options(rows: list[int]) -> list[str]:
        words: list[str] = []
        for row in rows:
            words += ["--chat", texts[row], "--steer", files[row], f"--alpha={alphas[row]}"]
        return words

    together = answers(capsys, chat_model, *options([0, 1, 2]))
    assert together == [answers(capsys, chat_model, *options([row]))[0] for row in range(3)]
    plain = answers(capsys, chat_model, *(word for text in texts for word in ("--chat", text)))
    assert [record["unsteered"] for record in together] == [record["text"] for record in plain]
    same = [record["steered"] == record["unsteered"] for record in together]
    assert same == [False, True, False]
    assert [record["alpha"] for record in together] == [2, 0, -1.5]


def test_a_vector_or_factor_counts_for_all_prompts(
    chat_model: str, vectors: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["--chat", "Hi", "--chat", "Who?"]
    one = answers(capsys, chat_model, *prompts, "--steer", vectors[0], "--alpha", "3")
    twice = ["--steer", vectors[0], "--alpha", "3"] * 2
    assert answers(capsys, chat_model, *prompts, *twice) == one
    assert sample([chat_model, "--max-new-tokens", "4", *prompts, "--steer", vectors[0]]) == 0
    shown = capsys.readouterr().out
    assert shown.count("unsteered: ") == shown.count("\nsteered: ") == 2
    assert "α" not in shown


def test_answers_with_several_factors_say_which(
    chat_model: str, vectors: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["--chat", "Hi", "--alpha=-1.5", "--chat", "Hi", "--alpha", "2"]
    assert sample([chat_model, "--max-new-tokens", "4", *prompts, "--steer", vectors[0]]) == 0
    headings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("── ")]
    assert headings == ["── Hi (α = -1.5) ──", "── Hi (α = 2) ──"]


def test_a_dialogue_is_steered_in_every_turn(
    chat_model: str,
    vectors: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def talk(*options: str) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Hi\nWho?\n")))
        return [record["text"] for record in answers(capsys, chat_model, "--chat", *options)]

    steered = talk("--steer", vectors[1], "--alpha", "3")
    assert steered == talk("--steer", vectors[1], "--alpha", "3", "--no-cache")
    (alone,) = answers(capsys, chat_model, "--chat", "Hi", "--steer", vectors[1], "--alpha", "3")
    assert steered[0] == alone["steered"]
    assert talk("--steer", vectors[1], "--alpha", "0") == talk("--precision", "fp32") != steered


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--precision", "bf16"], "if they are the same model, leave out --precision"),
        (["--alpha", "nan"], "--alpha nan: allowed are finite numbers"),
        (["--alpha", "1", "--alpha", "2"], "--alpha is given 2 times for 1 prompt(s): give it once, or once"),
        (["--steer", "runs/network"], "runs/network is not a vector (.safetensors): name one steering"),
    ],
)
def test_refuses_what_does_not_fit_the_vector(
    more: list[str], said: str, chat_model: str, vectors: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["--chat", "Hi"] * (2 if "--steer" in more else 1)
    assert sample([chat_model, *prompts, "--steer", vectors[0], *more]) == 2
    assert said in capsys.readouterr().err


def test_a_vector_of_another_model_is_refused(
    chat_model: str,
    vectors: list[str],
    language_run: Path,
    write_llama: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sample([str(language_run), "--prompt", "the", "--steer", vectors[0]]) == 2
    assert "happy.safetensors steers a model of width 32, but" in capsys.readouterr().err
    other = write_llama(tmp_path / "llama", initializer_range=0.1)
    assert sample([str(other), "--prompt", "the", "--steer", vectors[0]]) == 2
    assert f"was made on {chat_model}, not on {other} with these weights" in capsys.readouterr().err


def test_a_file_with_a_layer_that_the_model_lacks_is_refused(
    chat_model: str, vectors: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = read_vector(vectors[0])
    file = tmp_path / "forged.safetensors"
    save_vector(file, replace(made, origin=replace(made.origin, layer=2)))
    assert sample([chat_model, "--chat", "Hi", "--steer", str(file)]) == 2
    assert "layer 2 is out of range, the model has 0 … 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--output", "happy.pt"], "the name must end in .safetensors"),
        (["--plus", " "], "--plus and --minus need sentences, but one is empty"),
        (["--layer", "2"], "layer 2 is out of range, the model has 0 … 1"),
    ],
)
def test_a_mistake_is_one_line(
    changes: list[str], said: str, chat_model: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["vector", chat_model, *SENTENCES, "--layer", "1", "--output", "happy.safetensors"]
    assert main([*arguments, *changes]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert list(work.iterdir()) == []


def test_the_model_is_opened_as_the_vector_was_made(
    chat_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.steering.steered_samples import open_steered

    file = str(tmp_path / "half.safetensors")
    assert main(["vector", chat_model, *SENTENCES, "--layer", "1", "-o", file, "--precision", "bf16"]) == 0
    assert open_steered(chat_model, [file]).network.embedding.weight.dtype == torch.bfloat16
