import json
from pathlib import Path

import pytest

from experiments.benchmark import __main__ as command
from experiments.benchmark import decode


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "decode.json"
    assert command.main(["decode", "--quick", "--json", str(path)]) == 0
    report = json.loads(path.read_text(encoding="utf-8"))
    ways = {row["way"]: row for row in report["rows"]}
    assert list(ways) == [
        *("transformers fp32", "transformers bf16", "ours fp32", "ours bf16", "ours int8"),
        *(
            f"ours {precision}, at 16 tokens, {cached}"
            for precision in decode.PRECISIONS
            for cached in ("uncached", "cached")
        ),
    ]
    assert all(value > 0 for row in ways.values() for value in row["tokens/s"]["values"])
    best = max(ways[way]["tokens/s"]["mean"] for way in ("transformers fp32", "transformers bf16"))
    ours = ways["ours fp32"]
    assert min(row["× transformers' best"]["mean"] for row in list(ways.values())[:2]) <= 1
    assert ours["× transformers' best"]["mean"] == pytest.approx(ours["tokens/s"]["mean"] / best, rel=0.5)
    assert ours["MB/token"] == 2 * ways["ours bf16"]["MB/token"] == 4 * ways["ours int8"]["MB/token"]
    assert "In fp32 the first 6 of 6 new tokens are those of transformers." in capsys.readouterr().out


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decode, "library_llama", lambda *_: None)
    path = tmp_path / "decode.json"
    assert command.main(["decode", "--quick", "--repeats", "1", "--json", str(path)]) == 0
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["rows"][0]["way"] == "ours fp32"
    assert report["rows"][0]["× transformers' best"] is None
    assert "transformers is not installed, so there is no comparison." in report["notes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "1"], "--tokens must be ≥ 2 and --long > 4"),
        (["--long", "4"], "--tokens must be ≥ 2 and --long > 4"),
        (["--long", "9000"], "smollm2 has context length 32"),
        (["--model", "nowhere.gguf"], "nowhere.gguf doesn't exist"),
    ],
)
def test_what_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if "--model" not in arguments:
        monkeypatch.setattr(decode, "read_model", lambda name: decode.tiny_model())
    assert command.main(["decode", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
