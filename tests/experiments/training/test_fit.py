"""What a run leaves, prints and returns, and how it stops when it can't go on."""

import csv
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn

import experiments
from experiments import register
from experiments.config import registry
from experiments.config.check import load_config
from experiments.errors import RunError, UserError
from experiments.launch import main
from experiments.training import checkpoint
from lit_modules.base import LitModule
from lit_modules.configs.base import ModelConfig

STEPS_PER_EPOCH = 6  # 1,257 training images in batches of 250


def with_trainer(tiny: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {**tiny, "trainer": {**tiny["trainer"], **settings}}


@dataclass(kw_only=True)
class PlainConfig(ModelConfig):
    width: int = field(default=5, metadata={"help": "How wide.", "min": 1})


class PlainModel(LitModule):
    """A researcher's own model: nothing of the suite's but the base class."""

    def __init__(self, config: Any, info: Any, **optim: Any) -> None:
        super().__init__(config, info, **optim)
        self.network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(info.input_shape), config.width),
            nn.ReLU(),
            nn.Linear(config.width, 10),
        )

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self.network(batch[0]), batch[1])}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self.network(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", F.cross_entropy(self.network(batch[0]), batch[1]))


@pytest.fixture
def own_model() -> Iterator[None]:
    register("model", "plain", PlainModel, PlainConfig)
    yield
    del registry.CATALOG["model"]["plain"]
    registry.OWN.discard(("model", "plain"))


# ------------------------------------------------------------------------------------- what a run leaves


def test_a_run_leaves_every_file_with_what_it_promises(
    tiny_file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_file), "run_dir=out", "trainer.dashboard=true"]) == 0
    out, err = capsys.readouterr()
    folder = work / "out"
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "metrics.json",
        "metrics.csv",
        "environment.json",
        "run.log",
        "test_confusion.csv",
        "checkpoints",
        "tensorboard",
    }
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert sorted(p.name for p in work.iterdir()) == ["out", "tiny.yaml"]

    resolved = load_config(folder / "config.yaml").plain
    expected = load_config(tiny_file, "trainer.dashboard=true").plain
    assert resolved == expected

    metrics = json.loads((folder / "metrics.json").read_text())
    for key in ("test/accuracy", "test/loss", "val/accuracy", "val/loss"):
        assert isinstance(metrics[key], float)
    assert (metrics["epochs"], metrics["steps"]) == (2, 2 * STEPS_PER_EPOCH)
    assert metrics["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert all(metrics[key] > 0 for key in ("fit_seconds", "samples_per_second", "peak_memory_mb"))
    assert all(isinstance(value, float) for value in metrics.values())  # flat

    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [int(row["step"]) for row in rows if row["name"] == "train/loss"]
    assert losses == [2, 4, 6, 8, 10, 12]
    names = {row["name"] for row in rows}
    assert {
        "train/learning_rate",
        "train/gradient_norm",
        "train/accuracy",
        "val/loss",
        "test/accuracy",
    } <= names
    best = min((row for row in rows if row["name"] == "val/loss"), key=lambda row: float(row["value"]))
    assert float(best["value"]) == metrics["val/loss"]

    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert len(environment["git_revision"]) == 40
    assert "done in" in (folder / "run.log").read_text()

    assert err == ""
    lines = [line for line in out.splitlines() if line.strip()]
    assert lines[-1].split() == ["dashboard:", "tensorboard", "--logdir", "out"]
    assert lines[-2].split() == ["run", "directory:", "out"]
    assert f"{metrics['test/accuracy']:.4f}" in "\n".join(lines[-8:-2])


def test_the_reported_test_metrics_are_scikit_learns_for_the_best_checkpoint(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny, "trainer.max_epochs=3", "trainer.ema_decay=0.5")
    module: Any = result.module
    from datamodules.configs.mnist import DigitsConfig
    from datamodules.mnist import DigitsDataModule

    data = DigitsDataModule(DigitsConfig())
    data.setup()
    images, targets = data.split("test")
    state = checkpoint.load(result.run_dir / "checkpoints" / "best.ckpt")["state_dict"]
    module.load_state_dict(state)
    with torch.no_grad():
        probabilities = module.eval()(data.normalize(images)).double().softmax(1).numpy()
    assert result.metrics["test/accuracy"] == pytest.approx(accuracy_score(targets, probabilities.argmax(1)))
    assert result.metrics["test/loss"] == pytest.approx(log_loss(targets, probabilities), rel=1e-5)


def test_checkpoints_are_plain_data_with_config_and_info(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny)
    for name in ("best", "last"):
        saved = torch.load(result.run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert saved["config"] == load_config(tiny).plain
        assert saved["info"]["input_shape"] == [1, 8, 8]
        assert list(saved["info"]["class_names"]) == list("0123456789")


def test_two_runs_of_one_config_are_the_same_and_another_seed_is_not(tiny: dict[str, Any]) -> None:
    def weights(result: Any) -> Mapping[str, Tensor]:
        return checkpoint.load(result.run_dir / "checkpoints" / "last.ckpt")["state_dict"]

    first, second = weights(experiments.run(tiny)), weights(experiments.run(tiny))
    other = weights(experiments.run(tiny, "seed=1"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_without_run_dir_each_run_has_its_own_under_its_name(tiny: dict[str, Any], work: Path) -> None:
    first, second = experiments.run(tiny), experiments.run(tiny)
    assert first.run_dir != second.run_dir
    assert {p.resolve() for p in (work / "runs" / "tiny").iterdir()} == {
        first.run_dir.resolve(),
        second.run_dir.resolve(),
    }


# ------------------------------------------------------------------------------------- refusals and failures


def test_a_directory_that_holds_a_run_is_refused(
    tiny_file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "out").mkdir()
    assert main([str(tiny_file), "run_dir=out", "trainer.max_epochs=1"]) == 0
    before = {p: p.stat().st_mtime_ns for p in (work / "out").rglob("*")}
    assert main([str(tiny_file), "run_dir=out"]) == 2
    assert "already holds a run; continue it with resume=auto" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in (work / "out").rglob("*")} == before
    (work / "file").write_text("")
    assert main([str(tiny_file), "run_dir=file/out"]) == 2
    assert "cannot create the run directory" in capsys.readouterr().err


def test_triton_on_a_cpu_is_refused_by_its_key_and_leaves_nothing(work: Path) -> None:
    values = (
        "model.name=vision_transformer",
        "model.implementation=triton",
        "data.name=digits",
        "trainer.accelerator=cpu",
    )
    with pytest.raises(UserError, match=r"^model\.implementation = 'triton' needs a CUDA GPU; use fused"):
        experiments.run({"name": "vit"}, *values)
    assert list(work.iterdir()) == []


def test_an_unknown_monitor_stops_before_the_first_epoch(tiny: dict[str, Any], work: Path) -> None:
    with pytest.raises(
        UserError, match=r"trainer\.monitor = 'val/los'.*did you mean val/loss\?.*val/accuracy"
    ):
        experiments.run(with_trainer(tiny, monitor="val/los"), "run_dir=out")
    assert list(work.iterdir()) == []  # the corrected command can use the same folder


def test_a_loss_that_is_no_longer_finite_ends_with_one_line_and_status_1(
    tiny_file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grows = ["optimizer.lr=1e4", "optimizer.weight_decay=1e4"]  # each step multiplies the weights by -1e8
    sources = [str(tiny_file), "run_dir=out", *grows, "trainer.max_epochs=9"]
    assert main(sources) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "the loss became nan at step" in err
    assert "learning rate 1e+04" in err
    assert "no checkpoint was written yet" in err
    assert "Traceback" in (work / "out" / "run.log").read_text()
    assert not (work / "out" / "metrics.json").exists()
    assert main([*sources[:1], *sources[2:], "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


class Blows(PlainModel):
    """Fine for an epoch, then infinite."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        step = super().training_step(batch, batch_idx)
        return {"loss": step["loss"] * (1.0 if self.trainer.current_epoch == 0 else math.inf)}


def test_the_last_good_checkpoint_is_named_and_stays_good(
    tiny: dict[str, Any], work: Path, own_model: None
) -> None:
    registry.CATALOG["model"]["plain"] = dataclasses.replace(registry.entry("model", "plain"), target=Blows)
    blown = {**tiny, "model": {"name": "plain"}}
    with pytest.raises(
        RunError, match=rf"became inf at step {STEPS_PER_EPOCH + 1}.*is out/checkpoints/last\.ckpt"
    ):
        experiments.run(blown, "run_dir=out")
    saved = checkpoint.load(work / "out" / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == STEPS_PER_EPOCH
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


# ------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", list(registry.CATALOG["optimizer"]))
def test_every_optimizer_trains(name: str, tiny: dict[str, Any]) -> None:
    result = experiments.run({**tiny, "optimizer": {"name": name}}, "trainer.limit_train_batches=3")
    assert result.metrics["steps"] == 6


@pytest.mark.parametrize("name", list(registry.CATALOG["schedule"]))
def test_every_schedule_gives_each_step_its_rate(name: str, tiny: dict[str, Any]) -> None:
    from lit_modules.optim.schedules import build_schedule

    result = experiments.run({**tiny, "schedule": {"name": name}}, "trainer.log_every_n_steps=1")
    with (result.run_dir / "metrics.csv").open(newline="") as file:
        rates = [float(r["value"]) for r in csv.DictReader(file) if r["name"] == "train/learning_rate"]
    factor = build_schedule(registry.schema("schedule", name)(), total_steps=12, steps_per_epoch=6)
    # The rate that is logged after a step is the one that the next step will use.
    assert rates == pytest.approx([0.05 * factor(step) for step in range(1, 13)])


def test_deterministic_mode_ends_with_the_run(tiny: dict[str, Any]) -> None:
    seen = []

    class Watches(PlainModel):
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            seen.append(torch.are_deterministic_algorithms_enabled())
            return super().training_step(batch, batch_idx)

    register("model", "watches", Watches, PlainConfig)
    try:
        experiments.run(
            with_trainer({**tiny, "model": {"name": "watches"}}, deterministic=True, max_epochs=1)
        )
    finally:
        del registry.CATALOG["model"]["watches"]
    assert set(seen) == {True}
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


@pytest.mark.slow
def test_compiling_changes_no_name_in_the_checkpoint(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def traced_only(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self: setattr(
            self, "_compiled_call_impl", torch.compile(self._call_impl, backend=traced_only)
        ),
    )
    plain = experiments.run(tiny, "trainer.max_epochs=1")
    fast = experiments.run(with_trainer(tiny, compile=True, max_epochs=1))
    assert compiled
    states = [checkpoint.load(r.run_dir / "checkpoints" / "last.ckpt")["state_dict"] for r in (plain, fast)]
    assert states[0].keys() == states[1].keys()
    for key in states[0]:
        torch.testing.assert_close(states[1][key], states[0][key])


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16)])
def test_precision_reaches_the_weights_and_leaves_the_process_alone(
    precision: str, dtype: torch.dtype, tiny: dict[str, Any]
) -> None:
    result = experiments.run(with_trainer(tiny, precision=precision))
    saved = checkpoint.load(result.run_dir / "checkpoints" / "best.ckpt")["state_dict"]
    assert {value.dtype for key, value in saved.items() if key.startswith("network")} == {dtype}
    assert torch.get_default_dtype() == torch.float32


def test_max_steps_ends_within_an_epoch_with_a_validated_checkpoint(tiny: dict[str, Any]) -> None:
    for steps in (2, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 2):
        result = experiments.run(with_trainer(tiny, max_steps=steps, check_val_every_n_epoch=2, max_epochs=5))
        assert result.metrics["steps"] == steps
        assert "val/loss" in result.metrics
        assert "test/loss" in result.metrics


def test_the_last_epoch_is_validated_whatever_the_interval(tiny: dict[str, Any]) -> None:
    for epochs in (1, 3):
        result = experiments.run(with_trainer(tiny, check_val_every_n_epoch=2, max_epochs=epochs))
        with (result.run_dir / "metrics.csv").open(newline="") as file:
            validated = [int(r["epoch"]) for r in csv.DictReader(file) if r["name"] == "val/loss"]
        assert validated == {1: [0], 3: [1, 2]}[epochs]


def test_early_stopping_and_the_mode_choose_as_they_say(tiny: dict[str, Any]) -> None:
    stuck = {**tiny, "optimizer": {"name": "sgd", "lr": 1e-30}}
    result = experiments.run(with_trainer(stuck, early_stopping_patience=2, max_epochs=9))
    assert result.metrics["epochs"] == 3  # one that counts as better than nothing, two that don't get better
    up = experiments.run(with_trainer(tiny, monitor="val/accuracy", monitor_mode="max", max_epochs=4))
    with (up.run_dir / "metrics.csv").open(newline="") as file:
        scores = [float(r["value"]) for r in csv.DictReader(file) if r["name"] == "val/accuracy"]
    assert up.metrics["val/accuracy"] == max(scores)


def test_clipping_and_accumulation_reach_the_trainer(tiny: dict[str, Any]) -> None:
    still = experiments.run(with_trainer(tiny, gradient_clip_norm=1e-12))
    start = experiments.run({**tiny, "optimizer": {"name": "sgd", "lr": 1e-30}})
    for key, value in still.module.state_dict().items():
        torch.testing.assert_close(value, start.module.state_dict()[key])
    assert experiments.run(with_trainer(tiny, accumulate_grad_batches=4)).metrics["steps"] == 4


# ------------------------------------------------------------------------------------- init_from, own classes


def test_a_new_run_starts_from_an_earlier_ones_weights(
    tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = experiments.run(tiny, "trainer.max_epochs=4")
    best = first.run_dir / "checkpoints" / "best.ckpt"
    frozen = {**tiny, "optimizer": {"name": "sgd", "lr": 1e-30}}
    for source in (best, first.run_dir):
        again = experiments.run(frozen, f"model.init_from={source}")
        assert again.metrics["test/loss"] == pytest.approx(first.metrics["test/loss"], abs=1e-6)
        assert again.run_dir != first.run_dir
    capsys.readouterr()
    experiments.run({**frozen, "model": {"name": "mlp", "hidden": [8, 8]}}, f"model.init_from={best}")
    assert "initialised 4 of 6 tensors" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["tiny", "language_settings"])
def test_the_weights_of_one_implementation_start_the_other(
    settings: str, request: pytest.FixtureRequest, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = request.getfixturevalue(settings)
    still = {"optimizer": {"name": "sgd", "lr": 1e-30}}
    for source, other in (("fused", "by_hand"), ("by_hand", "fused")):
        first = experiments.run(config, f"model.implementation={source}", f"run_dir={work / source}")
        capsys.readouterr()
        again = experiments.run(
            {**config, **still, "run_dir": str(work / f"from_{source}")},
            f"model.implementation={other}",
            f"model.init_from={first.run_dir}",
        )
        tensors = len(first.module.state_dict())
        assert f"initialised {tensors} of {tensors} tensors" in capsys.readouterr().out
        assert again.metrics["test/loss"] == pytest.approx(first.metrics["test/loss"], abs=1e-6)


@pytest.mark.parametrize(("content", "said"), [(None, "no checkpoint"), (b"PK", "not a checkpoint")])
def test_weights_that_cannot_be_had_are_refused(
    content: bytes | None, said: str, tiny_file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (work / "bad.ckpt").write_bytes(content)
    assert main([str(tiny_file), "model.init_from=bad.ckpt"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_weights_that_fit_nowhere_are_refused(tiny: dict[str, Any], own_model: None) -> None:
    first = experiments.run({**tiny, "model": {"name": "plain"}}, "trainer.max_epochs=1")
    with pytest.raises(UserError, match="none of its 4 tensors fits"):
        experiments.run(tiny, f"model.init_from={first.run_dir}")


def test_python_runs_an_own_model_and_gets_metrics_directory_and_module(
    tiny: dict[str, Any], tiny_file: Path, own_model: None
) -> None:
    result = experiments.run(tiny_file, {"model": {"name": "plain", "width": 7}}, "trainer.max_epochs=1")
    assert isinstance(result.module, PlainModel)
    assert isinstance(result.module, L.LightningModule)
    assert result.module.config.width == 7
    assert (result.run_dir / "checkpoints" / "best.ckpt").exists()
    assert np.isfinite(result.metrics["test/loss"])
    with pytest.raises(UserError, match=r"model\.width = 0"):
        experiments.run(tiny, {"model": {"name": "plain", "width": 0}})


def test_a_failing_model_ends_with_one_line_its_cause_and_a_traceback_in_the_log(
    tiny_file: Path, work: Path, own_model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails(PlainModel):
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            raise KeyError("a cause\nof two lines")

    registry.CATALOG["model"]["plain"] = dataclasses.replace(registry.entry("model", "plain"), target=Fails)
    assert main([str(tiny_file), "model.name=plain", "run_dir=out"]) == 1
    err = capsys.readouterr().err
    assert "KeyError" in err
    assert "a cause" in err
    assert len(err.splitlines()) == 1
    assert "Traceback" in (work / "out" / "run.log").read_text()
