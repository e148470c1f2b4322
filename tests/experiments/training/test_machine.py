"""What a figure's reader is told of where it comes from is what the machine itself says."""

import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest
import torch

from experiments.config.sources import REPOSITORY
from experiments.training.machine import (
    describe_machine,
    describe_revision,
    peak_memory_mb,
    peak_resident_bytes,
)


def test_the_description_is_plain_and_names_versions_and_cores() -> None:
    described = describe_machine()
    assert described["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert described["cpu_cores"] == os.cpu_count()
    assert described["threads"] == torch.get_num_threads()
    assert len(described["gpus"]) == torch.cuda.device_count()
    assert described["processor"]


def test_the_revision_is_gits_and_nothing_outside_a_repository(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *settings, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert describe_revision(tmp_path) == {"git_revision": None, "git_changed": None}
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    head = git("rev-parse", "HEAD")
    assert describe_revision(tmp_path) == {"git_revision": head, "git_changed": False}
    (tmp_path / "a").write_text("2")
    assert describe_revision(tmp_path) == {"git_revision": head, "git_changed": True}
    assert describe_revision() == describe_revision(REPOSITORY)


def _rise(megabytes: int) -> float:
    """By how much holding so much raises the peak."""
    before = peak_memory_mb()
    held = bytearray(megabytes * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])  # a page counts once it is touched
    return peak_memory_mb() - before


@pytest.mark.slow
@pytest.mark.skipif(peak_resident_bytes() is None, reason="the system doesn't say")
def test_the_peak_is_this_processs_own() -> None:
    """A fresh process starts from its own peak, not from that of the process that started it."""
    _rise(400)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(peak_memory_mb) < peak_memory_mb() - 200
        assert pool.apply(_rise, (300,)) == pytest.approx(300, abs=30)
