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
    for several in ({"stages": {"first": {}, "second": later}}, {"variants": {"first": {}, "second": later}}):
        with pytest.raises(UserError, match=r"there is no checkpoint missing\.ckpt"):
            experiments.run(tiny, several)
    assert not list(work.iterdir())


def test_estimates_leave_the_random_numbers_as_they_are(tiny: dict[str, Any]) -> None:
    experiment = load_config(tiny)
    info = build.build_data(experiment).info
    torch.manual_seed(0)
    check_memory(experiment, info)
    assert torch.rand(3).equal(torch.rand(3, generator=torch.Generator().manual_seed(0)))
