"""The contrastive encoder learns to find the second view, and a classifier can start from it."""

from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from datamodules.info import ImageInfo
from experiments.errors import UserError
from experiments.predict.__main__ import predict
from experiments.training import checkpoint
from experiments.training.build import restore
from lit_modules.configs.contrastive_encoder import ContrastiveEncoderConfig
from lit_modules.contrastive_encoder import ContrastiveEncoder

CNN = {"widths": [4, 6], "blocks": [0, 1]}
PRETRAIN: dict[str, Any] = {
    "model": {"name": "contrastive_encoder", "projection": 8, **CNN},
    "data": {"name": "digits", "views": 2, "batch_size": 64, "augment": {"shift": 1, "rotation": 10}},
    "optimizer": {"name": "adamw", "lr": 0.01},
}
INFO = ImageInfo(input_shape=(1, 8, 8), class_names=("a", "b"), mean=(0.0,), std=(1.0,), views=2)


@pytest.mark.slow
def test_it_learns_to_find_the_second_view_and_a_classifier_starts_from_it(tiny: dict[str, Any]) -> None:
    stages = {
        "pretrain": PRETRAIN,
        "tuned": {"model": {"name": "residual_cnn", "init_from": "pretrain", **CNN}, "optimizer.lr": 1e-30},
    }
    result = experiments.run(
        {"trainer": tiny["trainer"], "data.name": "digits"},
        {"stages": stages},
        "run_dir=chain",
        "trainer.max_epochs=6",
    )
    pretrain, tuned = result.children.values()
    assert pretrain.metrics["test/found"] > 5 / 360  # of one batch of 360 images, 1 / 360 by chance
    kept = {
        k: v
        for k, v in pretrain.module.state_dict().items()
        if k.startswith("network.body.") and "num" not in k
    }
    assert len(kept) > 8
    own = tuned.module.state_dict()
    learned = [k for k in kept if "running" not in k]
    assert all(torch.equal(own[k], kept[k]) for k in learned)


def test_a_step_is_the_objective_of_the_projections_and_evaluation_finds_equal_views() -> None:
    torch.manual_seed(0)
    module = ContrastiveEncoder(ContrastiveEncoderConfig(projection=5, **CNN), INFO).eval()  # type: ignore[arg-type]
    first, second, targets = (
        torch.randn(9, 1, 8, 8),
        torch.randn(9, 1, 8, 8),
        torch.zeros(9, dtype=torch.int64),
    )
    assert module(first).shape == (9, 5)
    assert module.features(first).shape == (9, 6)
    torch.testing.assert_close(
        module.training_step((first, second, targets), 0)["loss"],
        module.objective(module(first), module(second)),
    )
    same = module.evaluation_step((first, first.clone(), targets), 0, "val")
    assert same["logits"].tolist() == [1] * 9
    assert same["losses"].shape == (9,)
    mixed = module.evaluation_step((first, first.flip(0), targets), 0, "val")
    assert mixed["logits"].tolist() == [0] * 4 + [1] + [0] * 4


def test_one_view_is_refused_and_so_is_a_classifier_of_two(tiny: dict[str, Any], work: Path) -> None:
    one = {**PRETRAIN, "data": {"name": "digits"}, "trainer": tiny["trainer"]}
    with pytest.raises(UserError, match=r"model: ContrastiveEncoder needs data\.views=2; got 1"):
        experiments.run(one)
    with pytest.raises(UserError, match=r"model: ImageClassifier needs data\.views=1; got 2"):
        experiments.run(tiny, "data.views=2")
    with pytest.raises(UserError, match="cannot be trained with it; choose from nt_xent, info_nce"):
        experiments.run({**PRETRAIN, "objective.name": "cross_entropy"})
    assert not list(work.iterdir())


def test_it_predicts_no_classes(tiny: dict[str, Any]) -> None:
    experiments.run({**PRETRAIN, "trainer": tiny["trainer"]}, "trainer.max_epochs=1", "run_dir=run")
    path = Path("run/checkpoints/best.ckpt")
    with pytest.raises(
        UserError, match="contrastive_encoder predicts no classes; train a classifier from it"
    ):
        predict(restore(checkpoint.load(path), path), ["a.png"])
