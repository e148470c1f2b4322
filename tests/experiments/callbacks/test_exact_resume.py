"""What a checkpoint adds to Lightning's: generators, time, and loop counters as they really were."""

import copy
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import experiments
from experiments.callbacks.exact_resume import ExactResume, random_state, set_random_state
from experiments.errors import UserError
from experiments.training import checkpoint

STEPS_PER_EPOCH = 6


def draws() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.standard_normal()),
        torch.rand(()).item(),
        torch.randn(()).item(),
    ]


@pytest.mark.parametrize("before", [0, 1, 5])
def test_every_generator_goes_on_from_where_it_was(before: int, tmp_path: Any) -> None:
    """After an odd number of normal draws too, whose second half the generators keep for the next."""
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    for _ in range(before):
        draws()
    random.gauss(0, 1)
    np.random.standard_normal()
    torch.save(random_state(), tmp_path / "state")
    expected = [draws() for _ in range(3)]
    set_random_state(torch.load(tmp_path / "state", weights_only=True))  # plain data
    assert [draws() for _ in range(3)] == expected


def counters(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}


def saved(tiny: dict[str, Any], *overrides: str) -> dict[str, Any]:
    result = experiments.run(tiny, *overrides)
    return checkpoint.load(result.run_dir / "checkpoints" / "last.ckpt")["loops"]["fit_loop"]


def test_a_finished_epoch_is_saved_as_the_moment_before_the_next(tiny: dict[str, Any]) -> None:
    loops = saved(tiny)
    assert loops["epoch_progress"]["current"] == counters(2, 2, 2, 2)
    batches = loops["epoch_loop.batch_progress"]
    assert batches["current"] == counters(0, 0, 0, 0)
    assert batches["total"]["completed"] == 2 * STEPS_PER_EPOCH
    assert not batches["is_last_batch"]


def test_an_epoch_that_the_fit_cut_short_is_saved_as_the_middle_that_it_is(tiny: dict[str, Any]) -> None:
    loops = saved(tiny, "trainer.max_steps=8")
    assert loops["epoch_progress"]["current"] == counters(2, 2, 1, 1)
    # Lightning completes the batch when it takes it up.
    assert loops["epoch_loop.batch_progress"]["current"] == counters(2, 2, 2, 1)


def test_the_clock_goes_on_over_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("experiments.callbacks.exact_resume.time.perf_counter", lambda: now[0])
    trainer: Any = SimpleNamespace(global_rank=0, fit_loop=SimpleNamespace())
    module: Any = None
    first = ExactResume({}, {})
    assert first.seconds() == 0
    first.on_fit_start(trainer, module)
    now[0] += 30
    assert first.seconds() == 30
    second = ExactResume({}, {})
    second.fit_seconds = first.seconds()
    now[0] += 1000
    second.on_fit_start(trainer, module)
    now[0] += 5
    second.on_train_end(trainer, module)
    now[0] += 7
    assert second.seconds() == second.fit_seconds == 35


def test_the_middle_of_an_epoch_is_taken_up_by_as_many_processes_only(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny, "trainer.max_steps=8")
    within = checkpoint.load(result.run_dir / "checkpoints" / "last.ckpt")
    between = copy.deepcopy(within)
    progress = between["loops"]["fit_loop"]["epoch_progress"]["current"]
    progress["completed"] = progress["started"]
    trainer: Any = SimpleNamespace(world_size=2, state=SimpleNamespace(fn="fit"))
    module: Any = None
    with pytest.raises(UserError, match=r"within an epoch of 1 process.*2 cannot continue it"):
        ExactResume({}, {}).on_load_checkpoint(trainer, module, within)
    ExactResume({}, {}).on_load_checkpoint(trainer, module, between)
    trainer.world_size = 1
    callback = ExactResume({}, {})
    callback.on_load_checkpoint(trainer, module, within)
    assert callback.resumed_step == 8
    assert callback.fit_seconds == within["fit_seconds"]
