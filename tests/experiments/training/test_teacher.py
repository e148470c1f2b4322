"""A student gets its teacher from a checkpoint; what cannot teach it is refused, and use needs no teacher."""

from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.evaluate.on_data import evaluate
from experiments.studies.stages import check_order
from experiments.training import checkpoint
from experiments.training.build import build_data, restore


def taught(tiny: dict[str, Any], teacher: str, **more: Any) -> dict[str, Any]:
    return {**tiny, "objective": {"name": "distillation", "teacher": teacher, **more}}


@pytest.fixture
def teacher(tiny: dict[str, Any]) -> str:
    experiments.run(tiny, "model.hidden=[16]", "trainer.max_epochs=10", "run_dir=teacher")
    return "teacher"


def test_a_student_without_labels_agrees_with_its_teacher(tiny: dict[str, Any], teacher: str) -> None:
    before = checkpoint.load(Path("teacher/checkpoints/best.ckpt"))["state_dict"]
    lengths = ["trainer.max_epochs=60", "optimizer={name: adamw, lr: 0.01}", "model.hidden=[16]"]
    result = experiments.run(taught(tiny, teacher), *lengths, "run_dir=student")
    student, path = result.module, Path("teacher/checkpoints/best.ckpt")
    own = restore(checkpoint.load(path), path)
    assert all(torch.equal(before[key], value) for key, value in own.module.state_dict().items())
    batches = build_data(load_config(tiny)).test_dataloader()
    images = torch.cat([images for images, _ in batches])
    with torch.no_grad():
        agreement = (student(images).argmax(1) == own.module(images).argmax(1)).float().mean()  # type: ignore[misc]
    assert agreement > 0.9
    assert not [
        key for key in checkpoint.load(Path("student/checkpoints/best.ckpt"))["state_dict"] if "teach" in key
    ]


def test_a_student_is_evaluated_and_resumed_as_any_run(tiny: dict[str, Any], teacher: str) -> None:
    whole = experiments.run(taught(tiny, teacher, label_weight=0.5), "run_dir=whole")
    experiments.run(taught(tiny, teacher, label_weight=0.5), "trainer.max_steps=4", "run_dir=cut")
    moved = Path(teacher).rename("moved")
    assert evaluate("whole")["test/loss"] == pytest.approx(whole.metrics["test/loss"])  # needs no teacher
    with pytest.raises(UserError, match="there is no checkpoint teacher"):
        experiments.run("resume=cut", "trainer.max_steps=null")
    assert experiments.run("resume=cut", "trainer.max_steps=null", f"objective.teacher={moved}").metrics


def test_what_cannot_teach_is_refused(tiny: dict[str, Any], teacher: str, work: Path) -> None:
    before = sorted(work.iterdir())
    with pytest.raises(UserError, match=r"objective\.teacher is missing"):
        experiments.run({**tiny, "objective": {"name": "distillation"}})
    with pytest.raises(UserError, match="there is no checkpoint nowhere"):
        experiments.run(taught(tiny, "nowhere"))
    with pytest.raises(UserError, match="mistake_gradients needs a classifier without a teacher"):
        experiments.run(taught(tiny, teacher), "trainer.measure=[mistake_gradients]")
    chain = {**tiny, "stages": {"first": {}, "student": {"objective": taught(tiny, "smollm2")["objective"]}}}
    with pytest.raises(UserError, match="there is no checkpoint smollm2"):  # before the first stage
        check_order(load_config(chain))
    table = {"model": {"name": "table_classifier"}, "data": {"name": "table", "path": "breast_cancer"}}
    with pytest.raises(
        UserError, match=r"objective\.teacher=teacher can't teach on this data: its kind differs"
    ):
        experiments.run(taught({**tiny, **table}, teacher))
    assert sorted(work.iterdir()) == before
