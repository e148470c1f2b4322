import re
from typing import Any

import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datamodules.info import ImageInfo, LabelledTableInfo
from experiments import run
from lit_modules.configs.objective import BinaryCrossEntropyConfig
from lit_modules.configs.table import TableClassifierConfig
from lit_modules.objective import BinaryCrossEntropy
from lit_modules.table_classifier import TableClassifier

INFO = LabelledTableInfo(
    input_shape=(3,), feature_names=("a", "b", "c"), mean=(0.0,) * 3, std=(1.0,) * 3, class_names=("n", "y")
)


def test_one_output_is_logistic_regression() -> None:
    torch.manual_seed(0)
    objective = BinaryCrossEntropy(BinaryCrossEntropyConfig())
    model = TableClassifier(TableClassifierConfig(), INFO, objective=objective)
    assert [tuple(p.shape) for p in model.parameters()] == [(1, 3), (1,)]
    rows, targets = torch.randn(20, 3), torch.arange(20) % 2
    out = model.evaluation_step((rows, targets), 0, "test")
    z = model.network(rows).squeeze(1).detach()
    assert out["losses"].mean().item() == pytest.approx(log_loss(targets, z.sigmoid().numpy()), rel=1e-5)
    model.test_metrics["auc"].update(out["logits"], targets)
    assert model.test_metrics["auc"].compute().item() == pytest.approx(roc_auc_score(targets, z))
    loss = model.training_step((rows, targets), 0)["loss"]
    loss.backward()
    # Hand-derived: dL/dw = mean((p - y) x).
    expected = ((z.sigmoid() - targets).unsqueeze(1) * rows).mean(0)
    torch.testing.assert_close(model.network.head.weight.grad[0], expected)


def test_two_outputs_and_hidden_layers() -> None:
    model = TableClassifier(TableClassifierConfig(hidden=[8, 16, 16], activation="sigmoid"), INFO)
    assert model(torch.zeros(5, 3)).shape == (5, 2)
    assert sum(isinstance(m, torch.nn.Sigmoid) for m in model.modules()) == 3


def test_images_are_refused() -> None:
    images = ImageInfo(input_shape=(1, 2, 2), class_names=("a",), mean=(0.0,), std=(1.0,))
    with pytest.raises(
        ValueError, match=r"can't learn from data of the kind 'images'; choose data\.name table"
    ):
        TableClassifier(TableClassifierConfig(), images)


@pytest.mark.slow
def test_one_and_two_outputs_learn_the_same_table(tiny: dict[str, Any]) -> None:
    """Two logits (0, z) are one logit z: both fits find nearly the same probabilities."""
    tiny |= {"model": {"name": "table_classifier"}, "optimizer": {"name": "adam", "lr": 0.03}}
    tiny |= {"data": {"name": "table", "path": "breast_cancer", "batch_size": 64}}
    tiny["trainer"] |= {"max_epochs": 12}
    results = [
        run(tiny, f"objective.name={name}", f"run_dir={name}")
        for name in ("binary_cross_entropy", "cross_entropy")
    ]
    assert [result.module.network.head.out_features for result in results] == [1, 2]
    for result in results:
        assert result.metrics["test/accuracy"] > 0.93
        assert result.metrics["test/auc"] > 0.98
    one, two = (result.metrics["test/loss"] for result in results)
    assert one == pytest.approx(two, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [[], [8]])
def test_the_dashboard_lists_mistaken_rows(tiny: dict[str, Any], hidden: list[int]) -> None:
    tiny |= {
        "model": {"name": "table_classifier", "hidden": hidden},
        "data": {"name": "table", "path": "wine"},
    }
    tiny["trainer"] |= {"max_epochs": 1, "dashboard": True}
    folder = run(tiny, "run_dir=run").run_dir
    assert (folder / "test_confusion.csv").read_text().count("\n") == 4
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    (tag,) = (tag for tag in events.Tags()["tensors"] if tag.startswith("test/worst_mistakes"))
    text = events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
    assert "| truth | prediction | probability | text |" in text
    assert re.search(r"\| sample \d+: alcohol -?\d.*, malic_acid ", text)
