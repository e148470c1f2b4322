"""What is damaged is moved aside or copied, and a run without its best state says what to do."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.errors import UserError
from experiments.training import recovery
from experiments.training.run_directory import read_metrics


def test_each_damaged_file_gets_a_name_of_its_own(work: Path) -> None:
    for content in ("a", "b", "c"):
        (work / "x.json").write_text(content)
        recovery.set_aside(work / "x.json")
    (work / "x.json").write_text("d")
    recovery.copy_aside(work / "x.json")
    assert {p.name: p.read_text() for p in work.iterdir()} == {
        "x.json.damaged": "a",
        "x.json.damaged-2": "b",
        "x.json.damaged-3": "c",
        "x.json.damaged-4": "d",
        "x.json": "d",
    }


@pytest.mark.parametrize(
    ("content", "is_damaged"),
    [
        (b'{"a": 1, "b": null}', False),
        (b"{}", False),
        (b"", True),
        (b'{"a": "x"}', True),
        (b"[]", True),
        (b"\xff", True),
        (b"[" * 100_000, True),
        (b"\0" * 100, True),
    ],
    ids=range(8),
)
def test_metrics_are_an_object_of_numbers(content: bytes, is_damaged: bool, work: Path) -> None:
    assert not recovery.is_damaged_json(work / "metrics.json")
    (work / "metrics.json").write_bytes(content)
    assert recovery.is_damaged_json(work / "metrics.json") == is_damaged


def test_a_finished_run_whose_metrics_cannot_be_read_now_is_refused_and_unchanged(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments.run(tiny, "run_dir=full")
    before = {p: p.stat().st_mtime_ns for p in Path("full").rglob("*")}
    original = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "metrics.json":
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    said = r"cannot read full/metrics\.json: Permission denied; nothing was changed"
    with pytest.raises(UserError, match=said):
        experiments.run("resume=full")
    assert {p: p.stat().st_mtime_ns for p in Path("full").rglob("*")} == before


@pytest.mark.parametrize("kind", ["pipe", "endless"])
@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "metrics.json"])
def test_a_device_or_pipe_in_place_of_a_file_is_moved_aside(
    kind: str, name: str, tiny: dict[str, Any]
) -> None:
    """Reading it would never end."""
    full = experiments.run(tiny, "run_dir=full").metrics
    path = Path("full", name)
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    again = experiments.run("resume=full").metrics
    assert again["test/loss"] == full["test/loss"]
    assert path.is_file()
    assert os.path.lexists(path.with_name(f"{path.name}.damaged"))


@pytest.mark.parametrize("loss", ["damaged", "missing"])
def test_a_finished_run_without_its_best_state_says_what_to_do(loss: str, tiny: dict[str, Any]) -> None:
    """Its best state by the largest loss is that of the first epoch."""
    settings = (tiny, "run_dir=full", "trainer.monitor_mode=max")
    full = experiments.run(*settings).metrics
    best = Path("full/checkpoints/best.ckpt")
    content = best.read_bytes()
    best.unlink() if loss == "missing" else best.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"full is finished .* its best state is lost: .* step 12\."):
        experiments.run(*settings, "resume=auto")
    assert read_metrics(Path("full")) == full
    assert best.exists() == (loss == "damaged")
    # As the message says:
    Path("full/metrics.json").rename("metrics.json")
    last = experiments.run(*settings, "resume=auto").metrics
    assert last["test/loss"] != full["test/loss"]
    assert experiments.run("resume=full").metrics == last
    assert json.loads(Path("metrics.json").read_text())["test/loss"] == full["test/loss"]
