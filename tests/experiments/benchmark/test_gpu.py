"""The command needs a GPU; its parts run on a CPU at tiny sizes."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from experiments.benchmark import __main__ as command
from experiments.benchmark import gpu

SIZES = replace(gpu.QUICK, ways=("tiled",))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["gpu"]) == 2
    assert capsys.readouterr().err == ("error: this benchmark needs a CUDA GPU, and this machine has none\n")


def test_every_target_has_its_row() -> None:
    names = [work.name for work in gpu.works(gpu.Sizes())]
    assert names == [
        "mnist_cnn, a step",
        "lm_char_tiny_shakespeare, a step",
        "mnist_cnn, a step, compile: cuda-graph",
        "lm_char_tiny_shakespeare, a step, compile: cuda-graph",
        "mnist_cnn_sprint to 99 %, compile: cuda-graph",
        "attention, tiled, T = 4096, bf16",
        "attention, triton, T = 4096, bf16",
        "start of a command",
        "lm_char_tiny_shakespeare_best, a step, and to 1.47 nats, compile: cuda-graph",
        "mnist_cnn, a step, compile: reduce-overhead",
        "lm_char_tiny_shakespeare, a step, compile: reduce-overhead",
    ]


def test_a_failure_or_the_end_of_the_time_costs_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(left: float) -> dict[str, Any]:
        raise RuntimeError("out of memory\nand details")

    rows = [
        gpu.Work("a", "≤ 1", fails),
        gpu.Work("b", "≤ 2", lambda left: {"measured": f"{round(left)} s are left"}),
        gpu.Work("c", "≤ 3", fails, least_seconds=100),
    ]
    report = gpu.measure(rows, seconds=50)
    assert [row["measured"] for row in report.rows] == [
        "failed: RuntimeError: out of memory",
        "50 s are left",
        "no time left (50 s)",
    ]
    assert capsys.readouterr().out.splitlines()[1] == "b: measured 50 s are left"


@pytest.mark.slow
def test_rows_that_need_no_download_are_measured_on_a_cpu() -> None:
    rows = [work for work in gpu.works(SIZES) if not work.name.startswith(("lm_", "start"))]
    report = gpu.measure(rows, seconds=120)
    step, sprint, attention = report.rows
    assert str(step["measured"]).endswith(" ms)")
    assert step["kernels"] is None  # counted on a GPU only
    assert " s of fit" in str(sprint["measured"])
    assert " × (" in str(attention["measured"])


@pytest.mark.slow
@pytest.mark.network
def test_rows_of_text_are_measured_on_a_cpu() -> None:
    rows = [work for work in gpu.works(SIZES) if work.name.startswith("lm_")]
    step, best = (str(work.measure(60.0)["measured"]) for work in rows)
    assert step.endswith(" ms)")
    assert best.endswith(" s of fit")
