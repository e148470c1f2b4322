"""Texts are classified, labelled, and continued by one token; inputs come from lines of a file too."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from datamodules.info import LabelledTextInfo
from datamodules.tokenizers import CharacterTokenizer
from experiments.config.check import load_config
from experiments.predict.__main__ import main
from experiments.predict.texts import predict_texts
from experiments.training.build import Restored, build_model


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {
        "model": {"name": "char_rnn", "cell": "rnn", "input": "one_hot", "hidden": 8},
        "data": {"name": "hello"},
        "optimizer": {"name": "adam", "lr": 0.1},
        "trainer": {"max_epochs": 20, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
        "run_dir": str(tmp_path_factory.mktemp("runs") / "hello"),
    }
    return experiments.run(settings).run_dir


def test_the_lesson_is_answered(hello: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(hello), "hello"]) == 0
    assert capsys.readouterr().out == "ohlol\n"


def test_lines_of_a_file_and_of_standard_input_are_inputs(
    hello: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words.txt").write_text("hello\n\noh\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffho\n"))
    assert main([str(hello), "hell", "-", "--from", str(tmp_path / "words.txt"), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["text"] for row in rows] == ["hell", "ho", "hello", "oh"]
    assert rows[2]["answer"] == "ohlol"
    assert main([str(hello), "--from", str(tmp_path / "none.txt")]) == 2
    assert "none.txt can't be read: No such file" in capsys.readouterr().err


def test_unknown_letters_are_named_and_the_rest_is_answered(
    hello: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(hello), "help", "", "hello", "--json"]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["answer"] for line in printed.out.splitlines()] == ["ohlol"]
    assert "'help': the model does not know p; it knows e h l o" in printed.err
    assert "the text is empty" in printed.err
    assert main([str(hello), "hello", "--n-best", "2"]) == 2
    assert "--n-best is an option for words, but this model takes texts" in capsys.readouterr().err


def test_a_language_model_ranks_the_next_tokens(
    language_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(language_run), "the cat sat on the ", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["text"] == "the cat sat on the "
    probabilities = [entry["probability"] for entry in record["next"]]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert main([str(language_run), "the 9"]) == 1
    assert "'the 9'" in capsys.readouterr().err


def test_a_classifier_of_texts_reads_them_as_its_passages() -> None:
    tokenizer = CharacterTokenizer.of(["abcdefghijklmnopqrstuvwxyz '"])
    info = LabelledTextInfo(
        class_names=("comedy", "tragedy"),
        vocab_size=tokenizer.vocab_size,
        context_length=20,
        tokenizer=tokenizer.to_dict(),
    )
    settings: dict[str, Any] = {
        "model": {"name": "text_classifier", "width": 8, "depth": 1, "num_heads": 2},
        "data": {"name": "play_passages"},
    }
    experiment = load_config(settings)
    model = Restored(experiment, build_model(experiment, info).eval(), info)
    first, second, bad = predict_texts(model, ["To BE, or not; 7", "to be or not", "7, 8!"])
    assert not isinstance(first, Exception)
    assert not isinstance(second, Exception)
    assert first.record["probabilities"] == second.record["probabilities"]
    with torch.inference_mode():
        expected = model.module(torch.tensor([tokenizer.encode("to be or not")]))[0].softmax(0)
    assert second.record["probabilities"]["tragedy"] == pytest.approx(expected[1].item(), rel=1e-5)
    assert str(bad) == "'7, 8!' has no words"
