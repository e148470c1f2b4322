"""The command: a table, a picture, a list, and what it says when something is wrong."""

from pathlib import Path

import pytest

from experiments.completion import complete
from experiments.demo.__main__ import main
from experiments.demo.outcome import Outcome, Result
from experiments.demo.pieces import pieces


def test_a_piece_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["softmax"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("softmax: Turn scores into probabilities\n")
    assert "  wrong: no maximum         nan       nan       nan\n" in printed


def test_the_list_has_every_piece(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    for piece in pieces().values():
        assert f"  {piece.name} " in printed
        assert f"\n{piece.topic}\n" in f"\n{printed}"


@pytest.mark.slow
def test_a_picture_is_written_where_it_should_be(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["focal_loss", "--plot"]) == 0
    assert (work / "focal_loss.png").stat().st_size > 1000
    assert main(["focal_loss", "--plot", "other.png"]) == 0
    assert (work / "other.png").read_bytes() == (work / "focal_loss.png").read_bytes()
    out = capsys.readouterr().out
    assert "\npicture   the loss against p_t" in out
    assert out.endswith("          other.png\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a piece; --list shows them all"),
        (["sofmax"], "there is no piece 'sofmax' (did you mean softmax?)"),
        (["--plot", "focal_loss"], "'focal_loss' does not end in .png (the piece comes before --plot)"),
        (["softmax", "--plot"], "--plot: softmax has no picture; these have one: kl_divergence, "),
        (["pi", "--plot", "no/pi.png"], "--plot no/pi.png: there is no folder no"),
        (["pi", "--plot", "folder.png"], "--plot folder.png: this is a folder; name a file"),
        (["softmax", "mse"], "unrecognized arguments: mse"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_explained(
    arguments: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "folder.png").mkdir()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_difference_to_the_library_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Outcome(inputs={}, results=[Result("softmax(x)", 1.0, "torch.softmax", 2.0)])
    monkeypatch.setattr("experiments.demo.running.run", lambda piece: broken)
    assert main(["softmax"]) == 1
    assert "softmax: softmax(x): we and torch.softmax differ by 1.0e+00" in capsys.readouterr().err


def test_pieces_are_completed() -> None:
    assert complete("experiments demo ") == list(pieces())
    assert complete("experiments demo log") == ["log_softmax", "logsumexp"]
    assert complete("experiments demo pi --pl") == ["--plot"]
