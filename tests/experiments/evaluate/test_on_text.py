"""Scoring a text, by the command and beside what the run itself logged."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.text import perplexity

from experiments.evaluate.__main__ import main
from experiments.evaluate.on_text import evaluate_text
from experiments.language_models.opening import open_trained

TEXT = "a dog sat on the mat; the cat ran to the café.\n" * 3


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def table(printed: str) -> dict[str, float]:
    cells = [line.strip("│ ").split("│") for line in printed.splitlines() if line.startswith("│")]
    return {name.strip(): float(value.replace(",", "")) for name, value in cells}


def test_it_is_the_mean_over_tokens_of_a_loop(language_run: Path, text: Path) -> None:
    """With stride 1 each token is predicted from the 16 before it, or from all there are."""
    model = open_trained(language_run)
    ids = torch.tensor(model.tokenizer.encode(TEXT))
    with torch.no_grad():
        logits = [model.network(ids[max(0, i - 16) : i].unsqueeze(0))[0, -1] for i in range(1, len(ids))]
    # A window's first 16 predictions count too, so the oracle for those reads the window's beginning.
    expected = perplexity(torch.stack(logits).unsqueeze(0).double(), ids[1:].unsqueeze(0)).item()
    metrics = evaluate_text(model, text, stride=1)
    assert metrics["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert metrics["loss"] == pytest.approx(math.log(expected), rel=1e-5)
    assert metrics["tokens"] == len(TEXT) - 1
    assert metrics["bytes"] == len(TEXT.encode()) - 1 > metrics["tokens"]
    nats = metrics["loss"] * metrics["tokens"]
    assert metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / metrics["bytes"])


def test_with_disjoint_windows_it_is_nearly_what_the_run_logged(
    language_run: Path, language_text: str, tmp_path: Path
) -> None:
    """The test part of the run's own text, in windows side by side; only the last one starts earlier."""
    recorded = json.loads((language_run / "metrics.json").read_text())
    test_part = language_text[len(language_text) - round(0.15 * len(language_text)) :]
    (tmp_path / "test.txt").write_text(test_part, encoding="utf-8")
    metrics = evaluate_text(open_trained(language_run), tmp_path / "test.txt", stride=16)
    assert metrics["loss"] == pytest.approx(recorded["test/loss"], rel=2e-2)


@pytest.mark.parametrize("stride", [None, 1, 5, 16])
def test_the_command_prints_them(
    language_run: Path, text: Path, stride: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [] if stride is None else ["--stride", str(stride)]
    assert main([str(language_run), "--text", str(text), *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert re.match(r".*best\.ckpt on .*text\.txt, context 16\n", printed.out)
    expected = evaluate_text(open_trained(language_run), text, stride=8 if stride is None else stride)
    assert table(printed.out) == pytest.approx(expected, abs=6e-5)


def test_half_precision_is_close(language_run: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        assert main([str(language_run), "--text", str(text), "--precision", precision]) == 0
        losses.append(table(capsys.readouterr().out)["loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_recurrent_model_reads_the_text_once(
    language_settings: dict[str, Any], text: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import experiments

    model = {"name": "char_rnn", "cell": "gru", "hidden": 8, "carry_state": False}
    run_dir = experiments.run({**language_settings, "model": model}, "trainer.max_epochs=1").run_dir
    capsys.readouterr()
    assert main([str(run_dir), "--text", str(text)]) == 0
    metrics = table(capsys.readouterr().out)
    loaded = open_trained(run_dir)
    ids = torch.tensor(loaded.tokenizer.encode(TEXT))
    with torch.no_grad():
        expected = F.cross_entropy(loaded.network(ids[None, :-1])[0], ids[1:]).item()
    assert metrics["loss"] == pytest.approx(expected, abs=1e-4)
    assert main([str(run_dir), "--text", str(text), "--stride", "4"]) == 2
    assert "reads a text from start to end" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"the c\xc3\xa4t", [], r"characters that the vocabulary lacks: 'ä', first at position 5"),
        (b"the cat \xff", [], r"is not UTF-8: invalid start byte at byte 8"),
        (b"", [], r"has 0 token\(s\): there is nothing to predict"),
        (b"t", [], r"has 1 token\(s\)"),
        (b"the cat", ["--stride", "17"], r"--stride 17: allowed is 1 … 16"),
        (b"the cat", ["--stride", "0"], r"--stride 0: allowed is 1 … 16"),
        (
            b"the cat",
            ["data.eval_batch_size=5"],
            r"data\.eval_batch_size=5: with --text there is no data set",
        ),
        (None, [], r"there is no such file or folder"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    language_run: Path,
    tmp_path: Path,
    content: bytes | None,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    assert main([str(language_run), "--text", str(path), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert re.search(message, printed.err), printed.err


def test_stride_and_precision_are_for_texts(language_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--stride", "4"], ["--precision", "bf16"]):
        assert main([str(language_run), *arguments]) == 2
        assert "need --text" in capsys.readouterr().err


def test_a_pretrained_model_needs_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smollm2"]) == 2
    assert "smollm2 is a pre-trained model without a data set; score a text" in capsys.readouterr().err
