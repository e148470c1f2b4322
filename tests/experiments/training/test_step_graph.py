"""Without a GPU, a stand-in records: it keeps inputs and outputs in the same memory, as a graph does."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

import experiments
from datamodules.info import DataInfo
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.studies.dry_run import dry_run
from experiments.training import checkpoint, step_graph, trainer
from experiments.training.step_graph import StepGraph
from lit_modules.base import LitModule
from tests.test_gpu import StopAt, tensors

REPLAYED = "trainer.compile=cuda-graph"


class Memory:
    """A function whose results always lie in the same memory."""

    recorded: int = 0

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Tensor],
        *,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self.function = function
        self.inputs = tuple(x.clone() for x in inputs)
        for _ in range(3):
            self.outputs = tree_map_only(Tensor, torch.clone, function(*self.inputs))
        Memory.recorded += 1

    def __call__(self, *inputs: Tensor) -> Any:
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new)
        results, memory = tree_flatten(self.function(*self.inputs))[0], tree_flatten(self.outputs)[0]
        for result, place in zip(results, memory, strict=True):
            if result is not None:
                place.copy_(result)
        return self.outputs


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU takes the place of the GPU."""
    monkeypatch.setattr(Memory, "recorded", 0)
    monkeypatch.setattr(step_graph, "CudaGraph", Memory)
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", torch.set_rng_state)
    monkeypatch.setattr(trainer, "check_hardware", lambda *_: None)
    monkeypatch.setattr(trainer, "at_hand", lambda config: (config, ()))


def states(*runs: Any) -> list[dict[str, Tensor]]:
    return [dict(tensors(checkpoint.load(run.run_dir / "checkpoints" / "last.ckpt"))) for run in runs]


def changed(config: dict[str, Any]) -> dict[str, Any]:
    """A residual network with all that a recording could disturb."""
    return {
        **config,
        "model": {"name": "residual_cnn", "widths": [8], "blocks": [1], "dropout": 0.3},
        "data": {**config["data"], "augment": {"shift": 1, "rotation": 10, "elastic": 1.0}},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "trainer": {
            **config["trainer"],
            "max_epochs": 2,
            "ema_decay": 0.9,
            "gradient_clip_norm": 1.0,
            "log_every_n_steps": 4,
        },
    }


def test_replayed_steps_change_nothing(tiny: dict[str, Any], request: pytest.FixtureRequest) -> None:
    plain = experiments.run(changed(tiny), "run_dir=plain")
    request.getfixturevalue("recording")
    replayed = experiments.run(changed(tiny), "run_dir=replayed", REPLAYED)
    assert Memory.recorded == 4  # steps and transforms, of whole batches and of the smaller last one
    ours, theirs = states(replayed, plain)
    assert ours.keys() == theirs.keys()
    assert [path for path in ours if not torch.equal(ours[path], theirs[path])] == []
    curves = [(run.run_dir / "metrics.csv").read_text().splitlines() for run in (replayed, plain)]
    losses = [[line.split(",")[:3] for line in curve if "loss" in line] for curve in curves]
    assert losses[0] == losses[1]
    assert replayed.module is not None
    again = copy.deepcopy(replayed.module.train())  # the module that a run returns holds no graph
    assert again.training_step((torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)), 0)["loss"].grad_fn


class Net(LitModule):
    """Autograd returns gradients that overlap, share memory or have a layout of their own."""

    def __init__(self) -> None:
        super().__init__(None, DataInfo())
        self.first, self.second, self.third = (nn.Parameter(torch.ones(2, 3)) for _ in range(3))

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        bent = torch.einsum("bi,oi->bo", batch[0], self.first + self.second).square()
        return {"loss": bent.sum() + self.third.sum()}


def step(module: Any, graph: StepGraph) -> None:
    for parameter in module.parameters():
        parameter.grad = None
    graph.backward(graph.training_step((torch.arange(12.0).view(4, 3),), 0)["loss"])


@pytest.mark.usefixtures("recording")
def test_gradients_are_those_of_a_backward_pass() -> None:
    module = Net()
    step(module, StepGraph(module))
    gradients = [parameter.grad for parameter in module.parameters()]
    module.zero_grad()
    module.training_step((torch.arange(12.0).view(4, 3),), 0)["loss"].backward()
    for gradient, parameter in zip(gradients, module.parameters(), strict=True):
        assert gradient is not None
        assert torch.equal(gradient, parameter.grad)  # type: ignore[arg-type]
        assert gradient.stride() == parameter.stride()
    assert len({gradient.untyped_storage().data_ptr() for gradient in gradients if gradient is not None}) == 3


@pytest.mark.usefixtures("recording")
def test_parameters_may_be_frozen_and_thawed_in_a_fit() -> None:
    module = Net()
    module.second.requires_grad_(False)
    graph = StepGraph(module)
    step(module, graph)
    assert module.second.grad is None
    module.second.requires_grad_(True)
    step(module, graph)
    assert module.second.grad is not None


class LossAlone(Net):
    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:  # type: ignore[override]
        return super().training_step(batch, batch_idx)["loss"]


@pytest.mark.usefixtures("recording")
def test_a_step_may_return_its_loss_alone() -> None:
    module = LossAlone()
    step(module, StepGraph(module))
    assert module.first.grad is not None


class Logs(Net):
    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        self.log("seen", 1.0)
        return super().training_step(batch, batch_idx)


class OwnBackward(Net):
    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        (2 * loss).backward()


@pytest.mark.usefixtures("recording")
def test_what_a_replay_would_leave_out_is_refused() -> None:
    module = Net()
    with pytest.raises(UserError, match=r"^a CUDA graph needs batches of tensors, and this one has str;"):
        StepGraph(module).training_step((torch.ones(4, 3), "name"), 0)
    with pytest.raises(UserError, match=r"^a training step of Logs calls self\.log, and a CUDA graph would"):
        step(module, StepGraph(Logs()))
    module.automatic_optimization = False
    for other in (module, OwnBackward()):
        with pytest.raises(UserError, match=rf"^a training step of {type(other).__name__} can't be replayed"):
            StepGraph(other)


@pytest.mark.usefixtures("recording")
def test_accumulated_gradients_are_refused(tiny: dict[str, Any]) -> None:
    """Lightning's callback changes what the config says."""
    with pytest.raises(UserError, match=r"^a CUDA graph overwrites the gradients of the step before"):
        experiments.run(tiny, REPLAYED, callbacks=[GradientAccumulationScheduler({0: 2})])


@pytest.mark.usefixtures("recording")
def test_a_strategy_of_several_processes_is_refused_for_one_too(tiny: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"trainer\.strategy ddp or fsdp; set it to auto$"):
        experiments.run(tiny, REPLAYED, "trainer.strategy=ddp", "trainer.devices=1")


@pytest.mark.usefixtures("recording")
def test_a_replayed_run_continues_exactly(tiny: dict[str, Any]) -> None:
    full = experiments.run(changed(tiny), "run_dir=full", REPLAYED)
    with pytest.raises(experiments.errors.Interrupted):
        experiments.run(changed(tiny), "run_dir=cut", REPLAYED, callbacks=[StopAt(3)])
    cut = experiments.run(changed(tiny), "run_dir=cut", "resume=auto", REPLAYED)
    ours, theirs = states(cut, full)
    assert [path for path in ours if not torch.equal(ours[path], theirs[path])] == []


@pytest.mark.usefixtures("recording")
def test_a_model_that_keeps_a_state_between_steps_is_refused(tiny: dict[str, Any], work: Path) -> None:
    (work / "cat.txt").write_text("the cat sat on the mat\n" * 40, encoding="utf-8")
    config = {
        **tiny,
        "model": {"name": "char_rnn", "hidden": 8, "carry_state": True},
        "data": {"name": "text", "path": "cat.txt", "context_length": 8, "sampling": "sequential"},
    }
    with pytest.raises(UserError, match=r"^a training step of CharRNN can't be replayed"):
        experiments.run(config, REPLAYED)
    with pytest.raises(UserError, match=r"^a training step of CharRNN can't be replayed"):
        dry_run(load_config(config, REPLAYED))


@pytest.mark.usefixtures("recording")
def test_batches_of_many_shapes_are_refused(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graph, "MOST_GRAPHS", 1)  # the smaller last batch is the second
    with pytest.raises(UserError, match=r"^the batches have more than 1 shapes, and each needs a CUDA graph"):
        experiments.run(changed(tiny), REPLAYED)


def test_what_cant_be_recorded_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(step_graph, "CudaGraph", refuses)
    transform = step_graph.TransformGraph(lambda batch, generator: batch)
    with pytest.raises(UserError) as raised:
        transform((torch.zeros(2),), torch.Generator())
    assert str(raised.value) == (
        "the transform of training batches can't be recorded as a CUDA graph (operation not permitted when "
        "stream is capturing); use trainer.compile=true or false"
    )
