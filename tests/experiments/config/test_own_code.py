"""Own classes of every kind reach a fit, a study, a chain and every command, and only by a person's hand."""

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments import cli
from experiments.config import own_code, registry
from experiments.config.check import load_config, to_yaml
from experiments.errors import Interrupted, UserError
from experiments.evaluate.__main__ import main as evaluate
from experiments.launch import main

OWN = '''
import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from experiments import register


class Points(L.LightningDataModule):
    """Points in the plane; the class is their half."""

    def __init__(self, size: int = 40, seed: int = 0):
        super().__init__()
        self.size, self.seed = size, seed

    def setup(self, stage):
        x = torch.randn(self.size, 2, generator=torch.Generator().manual_seed(self.seed))
        self.rows = TensorDataset(x, (x[:, 0] > 0).long())

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.rows, batch_size=8)

    test_dataloader = val_dataloader


class Net(L.LightningModule):
    """A plain LightningModule."""

    def __init__(self, info, width: int = 4, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))

    def loss(self, batch, name):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log(name, loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.loss(batch, "train_loss")

    def validation_step(self, batch, batch_idx):
        self.loss(batch, "val_loss")

    def test_step(self, batch, batch_idx):
        self.loss(batch, "test_loss")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Untested(Net):
    test_step = L.LightningModule.test_step


class Hinge:
    """The multi-class hinge loss."""

    def __init__(self, margin: float = 1.0):
        self.margin = margin

    def __call__(self, outputs, targets):
        return nn.functional.multi_margin_loss(outputs, targets, margin=self.margin)


def squared(outputs, targets, factor: float = 1.0):
    return factor * (outputs.softmax(1) - nn.functional.one_hot(targets, 10)).square().mean()


class Signed(torch.optim.Optimizer):
    """Steps by the sign of the gradient."""

    def __init__(self, params, lr: float = 0.01, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, {"lr": lr})
        assert isinstance(betas, tuple)

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign(), alpha=group["lr"])
        return loss


def halves(step: int, *, total_steps: int, factor: float = 0.5) -> float:
    """The full rate, then a fraction of it."""
    return 1.0 if 2 * step < total_steps else factor


class Note(Callback):
    """Writes a line per epoch."""

    def __init__(self, path: str = "notes.txt"):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        with open(self.path, "a") as file:
            file.write(f"{trainer.current_epoch}\\n")


class Top(MulticlassAccuracy):
    """Accuracy of the k best."""

    def __init__(self, info, k: int = 2):
        super().__init__(len(info.class_names), top_k=k, average="micro")


class Log(CSVLogger):
    """Lightning's CSV logger."""

    def __init__(self, folder: str = "csv"):
        super().__init__(folder, name="own", version=0)


register("data", "points", Points)
register("model", "net", Net)
register("model", "untested", Untested)
register("objective", "own_hinge", Hinge)
register("objective", "squared", squared)
register("optimizer", "signed", Signed)
register("schedule", "halves", halves)
register("baseline", "tree", DecisionTreeClassifier)
register("callback", "note", Note)
register("logger", "log", Log)
register("metric", "top", Top)
'''

pytestmark = pytest.mark.usefixtures("own_code_forgotten")

PLAIN = {
    "name": "plain",
    "model": {"name": "net"},
    "data": {"name": "points"},
    "trainer": {
        "max_epochs": 2,
        "monitor": "val_loss",
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "progress_bar": False,
    },
}


@pytest.fixture
def own(work: Path) -> str:
    """The file with the own classes, in the working folder."""
    (work / "own.py").write_text(OWN, encoding="utf-8")
    return "own.py"


@pytest.mark.slow
def test_plain_modules_train_as_they_are_and_every_command_sees_them(
    own: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "plain.yaml").write_text(to_yaml(PLAIN), encoding="utf-8")
    assert main(["plain.yaml", "--use", own, "run_dir=out", "model.width=6"]) == 0
    metrics = json.loads((work / "out" / "metrics.json").read_text())
    assert metrics["samples_per_second"] > 0
    assert metrics["test_loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)  # the same rows
    assert metrics["steps"] == 10
    assert "test_loss" in capsys.readouterr().out
    # The same process knows the classes; a longer run continues from the checkpoint.
    assert main(["--use=own.py", "resume=out", "trainer.max_epochs=3"]) == 0
    assert json.loads((work / "out" / "metrics.json").read_text())["epochs"] == 3
    capsys.readouterr()
    assert evaluate(["out", "--use", own]) == 0
    assert "test_loss" in capsys.readouterr().out


@pytest.mark.slow
def test_a_module_without_a_test_keeps_its_best_weights_and_is_in_evaluation_mode(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own_code.use(own)
    result = experiments.run(PLAIN, "model.name=untested")
    assert "there is no Untested.test_step: no test" in capsys.readouterr().out
    assert not result.module.training
    assert not [name for name in result.metrics if name.startswith("test")]


@pytest.mark.slow
def test_a_study_takes_own_parts_of_every_kind_into_its_processes(
    own: str, tiny: dict[str, Any], work: Path
) -> None:
    parts = {
        "objective": {"name": "own_hinge", "margin": 0.5},
        "optimizer": {"name": "signed", "lr": 0.003},
        "schedule": {"name": "halves"},
        "callbacks": {"note": {}},
        "loggers": {"log": {}},
        "metrics": {"top": {"k": 3}, "top1": {"name": "top", "k": 1}},
        "baselines": {"tree": {"max_depth": 4}},
        "seeds": [0],
    }
    own_code.use(own)
    result = experiments.run({**tiny, **parts})
    assert (work / "notes.txt").read_text() == "0\n1\n"
    assert (work / "csv" / "own" / "version_0" / "metrics.csv").is_file()
    assert result.metrics["tiny/test/top1"] == pytest.approx(result.metrics["tiny/test/accuracy"])
    assert result.metrics["tiny/test/top"] > result.metrics["tiny/test/top1"]
    assert 0.2 < result.metrics["tree/test/accuracy"] < 0.95
    assert "tree/parameters" not in result.metrics


@pytest.mark.slow
def test_a_chain_passes_own_callbacks_and_loggers_to_each_fit(
    own: str, tiny: dict[str, Any], work: Path
) -> None:
    own_code.use(own)
    note = registry.target("callback", "note")()
    log = registry.target("logger", "log")()
    result = experiments.run(tiny, {"stages": {"a": {}, "b": {}}}, callbacks=[note], loggers=[log])
    assert (work / "notes.txt").read_text() == "0\n1\n" * 2
    assert not result.module.training
    with pytest.raises(UserError, match="is a study, and its fits run in other processes"):
        experiments.run(tiny, "seeds=[0,1]", callbacks=[note])


def test_a_printed_command_names_the_file_again(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    own_code.use(own)
    cli.report(Interrupted(signal.SIGINT, Path("out"), Path("out/checkpoints/last.ckpt")))
    assert f"experiments.run resume=out --use {Path(own).resolve()}" in capsys.readouterr().err


def test_only_a_person_names_a_file(work: Path) -> None:
    (work / "trap.py").write_text("raise SystemExit('loaded')\n")
    for key in ("use", "trainer.use", "callbacks.trap.use"):
        with pytest.raises(UserError):
            load_config({"model.name": "mlp", "data.name": "digits", key: "trap.py"})
    with pytest.raises(UserError, match=r"unknown callback 'trap'.*--use FILE\.py"):
        load_config({"model.name": "mlp", "data.name": "digits", "callbacks": {"trap": {}}})


def test_mistakes_in_an_own_file_are_one_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "typo.py").write_text("x = 1\nbetas = y\n")
    (work / "bad.py").write_text("x = = 1\n")
    (work / "ok.py").write_text("from beside import x\n")
    (work / "beside.py").write_text("x = 1\n")
    (work / "leaves.py").write_text("import sys\nsys.exit('done')\n")
    (work / "latin1.py").write_bytes(b"x = 'caf\xe9'\n")
    for words, said in (
        (["--use", "typo.py"], "--use typo.py: line 2: NameError: name 'y' is not defined"),
        (["--use=bad.py"], "--use bad.py: line 1: SyntaxError"),
        (["--use", "nowhere.py"], "--use nowhere.py: there is no such Python file"),
        (["--use"], "--use needs a file"),
        (["--use", "leaves.py"], "--use leaves.py: line 2: SystemExit: done"),
        (["--use", "latin1.py"], "--use latin1.py: line 1: SyntaxError: (unicode error)"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    own_code.use("ok.py")


def test_a_class_of_a_notebook_is_refused_before_a_study_begins(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = type("Half", (), {"__init__": lambda self, step: None, "__module__": "__main__"})
    experiments.register("schedule", "half", schedule)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(UserError, match="Half is defined in this session"):
        experiments.run(tiny, "seeds=[0,1]", "schedule.name=half")
    assert not (work / "runs").exists()


@dataclass(kw_only=True)
class NoSettings:
    """Nothing to set."""


def half(outputs: Any, *, margin: float = 0.5) -> Any:
    """An objective that forgets the targets."""


def test_what_cannot_be_registered_is_refused_at_once() -> None:
    import torch

    from lit_modules.configs.optim import AdamWConfig

    with pytest.raises(UserError, match=r"can't register a 'modle' \(did you mean model\?\)"):
        experiments.register("modle", "x", NoSettings)
    with pytest.raises(UserError, match=r"can't register the name 'a\.b'"):
        experiments.register("model", "a.b", NoSettings)
    with pytest.raises(UserError, match="NoSettings has no training_step"):
        experiments.register("model", "x", NoSettings)
    with pytest.raises(
        UserError, match="half can't be called with the outputs and the targets of the objective: too many"
    ):
        experiments.register("objective", "half", half)
    with pytest.raises(UserError, match="the signature of dot is unknown; register a function of your own"):
        experiments.register("objective", "dot", torch.dot)
    with pytest.raises(UserError, match=r"can't register 'module:Net' as 'net': it is no class and no func"):
        experiments.register("model", "net", "module:Net")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="schema of another optimizer"):
        experiments.register("optimizer", "x", NoSettings, AdamWConfig)


def test_a_plain_module_has_no_sections_that_it_would_ignore(own: str) -> None:
    own_code.use(own)
    with pytest.raises(UserError, match="the model net has an optimizer of its own; remove this section"):
        load_config(PLAIN, "optimizer.lr=1")
    assert load_config(PLAIN).optimizer is None
    with pytest.raises(UserError, match=r"callbacks\.note\.pth"):
        load_config(PLAIN, "callbacks.note.pth=x")


def test_a_metric_cannot_replace_one_of_the_model(own: str, tiny: dict[str, Any]) -> None:
    own_code.use(own)
    with pytest.raises(UserError, match=r"metrics\.accuracy: the model mlp has it already"):
        experiments.run(tiny, "metrics.accuracy.name=top")
    with pytest.raises(UserError, match="metrics: the model net logs its own"):
        experiments.run(PLAIN, {"metrics": {"top": {}}})


@pytest.mark.slow
def test_a_function_is_an_objective(own: str, tiny: dict[str, Any]) -> None:
    own_code.use(own)
    objective = {"name": "squared", "factor": 0.0}
    result = experiments.run(tiny, {"objective": objective, "optimizer.weight_decay": 0.0})
    start = experiments.run(tiny, {"optimizer.lr": 1e-30})
    assert result.metrics["test/loss"] == pytest.approx(start.metrics["test/loss"])  # no gradient, no step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "body", "settings", "message"),
    [
        (
            "objective",
            "return outputs",
            "objective.name=own",
            r"must return one number as a tensor, got shape",
        ),
        ("objective", "return 1.0", "objective.name=own", "must return one number as a tensor, got float"),
        (
            "objective",
            "return outputs.detach().sum()",
            "objective.name=own",
            "has no gradient to the outputs",
        ),
        ("optimizer", "return None", "optimizer.name=own", "optimizer 'own': NoneType is no torch Optimizer"),
        ("schedule", "return 'x'", "schedule.name=own", "schedule 'own' must return a number, got str"),
        ("callback", "return {}", "callbacks.own={}", r"callbacks\.own: dict is no lightning Callback"),
        ("metric", "return {}", "metrics.own={}", r"metrics\.own: dict is no torchmetrics Metric"),
    ],
)
def test_an_own_part_of_the_wrong_class_is_refused_and_leaves_nothing(
    kind: str,
    body: str,
    settings: str,
    message: str,
    tiny: dict[str, Any],
    work: Path,
    own_code_forgotten: None,
) -> None:
    first = {"objective": "outputs, targets", "optimizer": "groups", "schedule": "step"}.get(kind, "")
    (work / "own.py").write_text(
        f"from experiments import register\ndef own({first}):\n    {body}\nregister({kind!r}, 'own', own)\n"
    )
    own_code.use(work / "own.py")
    plain = {key: value for key, value in tiny.items() if key != kind}
    with pytest.raises(UserError, match=message):
        experiments.run(plain, settings)
    assert not (work / "runs").exists()
