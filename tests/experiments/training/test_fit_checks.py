"""What can't train is refused before training, by key, and leaves nothing behind."""

from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.studies.dry_run import dry_run
from experiments.training import build, fit_checks
from experiments.training.fit_checks import check_memory


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["model.name=mlp", "model.norm=batch_norm", "data.batch_size=628"],
            r"data\.batch_size = 628: the last",
        ),
        (["model.name=mlp", "model.norm=batch_norm", "data.batch_size=1"], r"data\.batch_size = 1: the last"),
        (["model.name=residual_cnn", "data.batch_size=628"], r"or set data\.drop_last to true"),
        (
            ["model.name=residual_cnn", "model.implementation=by_hand", "data.batch_size=628"],
            r"data\.batch_size = 628: the last",
        ),
        (["model.name=mlp", "data.batch_size=4096", "data.drop_last=true"], r"too few for one batch"),
        (
            ["model.name=mlp", "data.pipeline=torchvision", "data.augment.elastic=1"],
            r"elastic_sigma: 4\.0 is too large for images of 8 pixels",
        ),
        (
            ["model.name=mlp", "data.pipeline=torchvision", "data.num_workers=1024"],
            r"data\.num_workers = 1024",
        ),
        (["model.name=mlp", "model.hidden=[1000000, 1000000]"], r"parameters with their gradients .* need"),
        (["model.name=vision_transformer", "model.width=65536", "model.depth=100"], r"choose smaller sizes"),
        (["model.name=mlp", "trainer.num_nodes=2"], r"trainer\.num_nodes = 2: no launcher"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_refused_before_training(
    settings: list[str], message: str, dry: bool, tiny: dict[str, Any], work: Path
) -> None:
    arguments = [{**tiny, "model": {}}, *settings]
    with pytest.raises(UserError, match=message):
        dry_run(load_config(*arguments)) if dry else experiments.run(*arguments)
    assert not list(work.iterdir())


def test_workers_are_counted_against_the_cores_of_this_process(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under taskset, or in a SLURM step with fewer cores than the machine has."""
    settings = (tiny, "data.pipeline=torchvision", "data.num_workers=2")
    monkeypatch.setattr(fit_checks, "usable_cores", lambda: {7})
    with pytest.raises(UserError, match=r"data\.num_workers = 2: this process may use 1 CPU cores"):
        dry_run(load_config(*settings))
    monkeypatch.setattr(fit_checks, "usable_cores", lambda: {3, 7})
    dry_run(load_config(*settings))


def test_the_smallest_batch_may_have_one_sample_where_the_model_allows_it(tiny: dict[str, Any]) -> None:
    for settings in (["model.hidden=[8]"], ["model.norm=batch_norm", "data.drop_last=true"]):
        dry_run(load_config(tiny, "data.batch_size=628", *settings))


def test_a_missing_file_of_a_later_stage_or_variant_is_found_first(tiny: dict[str, Any], work: Path) -> None:
    later = {"model": {"init_from": "missing.ckpt"}}
    fits = {"first": {}, "second": later}
    for several in ({"stages": fits}, {"variants": fits}, {**later, "sweep.optimizer.lr": [0.1, 0.2]}):
        with pytest.raises(UserError, match=r"there is no checkpoint missing\.ckpt"):
            experiments.run(tiny, several)
    assert not list(work.iterdir())


def test_estimates_leave_the_random_numbers_as_they_are(tiny: dict[str, Any]) -> None:
    experiment = load_config(tiny)
    datamodule = build.build_data(experiment)
    torch.manual_seed(0)
    check_memory(experiment, datamodule)
    assert torch.rand(3).equal(torch.rand(3, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("network", ["mlp", "residual_cnn", "classic_cnn", "vision_transformer", "by_hand"])
def test_the_estimate_of_activations_is_below_what_autograd_keeps(network: str, tiny: dict[str, Any]) -> None:
    """Oracle: the tensors that PyTorch saves for the backward pass of a real batch."""
    more = ["model.implementation=by_hand"] if network == "by_hand" else []
    name = "residual_cnn" if network == "by_hand" else network
    experiment = load_config({**tiny, "model": {"name": name}}, "data.batch_size=64", *more)
    module = build.build_model(experiment, build.build_data(experiment).info)
    weights = {p.untyped_storage()._cdata for p in module.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        if x.is_floating_point() and x.untyped_storage()._cdata not in weights:
            saved[x.untyped_storage()._cdata] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        output = module(torch.rand(64, 1, 8, 8))
    assert output.requires_grad
    real = sum(x.numel() for x in saved.values())
    estimate = 64 * fit_checks._kept_for_backward(module.to("meta"), torch.zeros(1, 1, 8, 8, device="meta"))
    assert 0.05 * real < estimate <= real


def test_a_batch_beyond_memory_is_refused_by_key(
    language_settings: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = ["data.batch_size=1000000"]
    wide = ["model.width=1024", "model.depth=8"]
    with pytest.raises(UserError, match=r"data\.batch_size = 1000000: a training step needs over [\d,]+"):
        experiments.run(language_settings, *huge, *wide, "run_dir=run")
    assert not (work / "run").exists()
    with pytest.raises(UserError, match="choose a smaller batch"):
        dry_run(load_config(language_settings, *huge, *wide))
    # A batch of all samples is no larger than the data.
    check_memory(experiment := load_config(DIGITS, *huge), build.build_data(experiment))
    monkeypatch.setattr(fit_checks, "_memory", lambda kind: 1e6)
    with pytest.raises(UserError, match=r"data\.batch_size = 1257: a training step"):
        check_memory(experiment, build.build_data(experiment))


DIGITS: dict[str, Any] = {"model": {"name": "mlp", "hidden": [512]}, "data": {"name": "digits"}}
