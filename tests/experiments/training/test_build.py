"""A checkpoint alone gives the model back."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import experiments
from experiments.config import registry
from experiments.errors import UserError
from experiments.training import build, checkpoint
from lit_modules.configs.image_classifier import ImageClassifierConfig
from lit_modules.image_classifier import ImageClassifier

SETTINGS = {
    "model": {"name": "mlp", "hidden": [16]},
    "data": {"name": "digits"},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A one-epoch run: its metrics, directory and module."""
    return experiments.run({**SETTINGS, "run_dir": str(tmp_path_factory.mktemp("runs") / "mlp")})


@pytest.fixture
def best(trained: Any) -> Path:
    return trained.run_dir / "checkpoints" / "best.ckpt"


def test_module_computes_what_the_trained_one_does(trained: Any, best: Path) -> None:
    restored = build.restore(checkpoint.load(best), best)
    images = torch.randn(5, 1, 8, 8)
    assert not restored.module.training
    torch.testing.assert_close(restored.module(images), trained.module.eval()(images), rtol=0, atol=0)
    assert restored.info == trained.module.info
    assert restored.experiment.model.config.hidden == [16]
    assert restored.experiment.optimizer.name == "adamw"


def test_overrides_lie_on_top_of_the_saved_config(best: Path) -> None:
    restored = build.restore(
        checkpoint.load(best), best, "data.eval_batch_size=7", "trainer.precision=64-true"
    )
    assert restored.experiment.data.config.eval_batch_size == 7
    assert restored.experiment.trainer.precision == "64-true"
    assert restored.experiment.trainer.max_epochs == 1


@pytest.mark.parametrize(
    ("how", "calls"),
    [(False, []), (True, [{}]), ("reduce-overhead", [{"dynamic": False}]), ("cuda-graph", [])],
)
def test_only_the_network_is_compiled(how: bool | str, calls: list[dict[str, Any]]) -> None:
    options: list[dict[str, Any]] = []
    module = nn.Module()
    module.network = nn.Linear(1, 1)
    module.network.compile = lambda **given: options.append(given)
    build.compile_network(module, how)
    assert options == calls


def test_a_model_with_tritons_kernels_is_opened_with_pytorchs(best: Path) -> None:
    saved = checkpoint.load(best)
    saved["config"]["model"]["implementation"] = "triton"
    assert build.restore(saved, best).experiment.model.config.implementation == "fused"


def test_weights_must_fit(best: Path) -> None:
    saved = checkpoint.load(best)
    with pytest.raises(UserError, match=r"best\.ckpt don't fit its model: .*(16|size)"):
        build.restore(saved, best, "model.hidden=[17]")
    saved["state_dict"].pop("network.head.weight")
    with pytest.raises(UserError, match=r"don't fit its model: .*network\.head\.weight"):
        build.restore(saved, best)


@pytest.mark.parametrize("entries", [{"wings": 2}, {"class_names": None, "wings": 2}])
def test_an_unknown_description_is_refused(best: Path, entries: dict[str, Any]) -> None:
    saved = checkpoint.load(best)
    saved["info"] = {**saved["info"], **entries}
    with pytest.raises(UserError, match="wings"):
        build.restore(saved, best)


@dataclasses.dataclass(kw_only=True)
class OwnConfig(ImageClassifierConfig):
    """Nothing to set."""


class Own(ImageClassifier):
    """A researcher's own model: one linear layer."""

    def build_network(self, config: Any, info: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, len(info.class_names)))


def test_an_own_model_must_be_registered_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.CATALOG, "model", dict(registry.CATALOG["model"]))
    experiments.register("model", "own_linear", Own, OwnConfig)
    model = {"name": "own_linear"}
    result = experiments.run({**SETTINGS, "model": model, "run_dir": str(tmp_path / "own")})
    best = result.run_dir / "checkpoints" / "best.ckpt"
    restored = build.restore(checkpoint.load(best), best)
    assert isinstance(restored.module, Own)
    del registry.CATALOG["model"]["own_linear"]
    with pytest.raises(UserError, match=r"'own_linear'.*experiments\.register"):
        build.restore(checkpoint.load(best), best)
