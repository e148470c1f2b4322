import lightning as L
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, log_loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from datamodules.info import ImageInfo
from lit_modules.classifier import Classifier
from lit_modules.configs.classifier import ClassifierConfig
from lit_modules.configs.objective import CrossEntropyConfig
from lit_modules.objective import CrossEntropy

INFO = ImageInfo(input_shape=(4,), class_names=("a", "b", "c"), mean=(0.0,), std=(1.0,))


class Own(Classifier):
    """Reads rows of four numbers, and also measures how well it does on each class."""

    def __init__(self, config: ClassifierConfig, **training) -> None:
        super().__init__(config, INFO, **training)
        torch.manual_seed(0)
        self.network = nn.Linear(4, 3)

    def build_metrics(self, stage):
        return {**super().build_metrics(stage), "balanced": MulticlassAccuracy(3, average="macro")}


def batch(count: int):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator)


def test_whatever_a_subclass_reads_and_measures_is_trained_and_logged():
    objective = CrossEntropy(CrossEntropyConfig(label_smoothing=0.2))
    module, (inputs, targets) = Own(ClassifierConfig(), objective=objective), batch(14)
    step = module.training_step((inputs, targets), 0)
    expected = F.cross_entropy(module.network(inputs), targets, label_smoothing=0.2)
    torch.testing.assert_close(step["loss"], expected)
    torch.testing.assert_close(module(inputs), module.network(inputs))
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=5)
    for stage, run in (("val", trainer.validate), ("test", trainer.test)):
        (logged,) = run(module, loader, verbose=False)
        logits = module(inputs).detach().double()
        assert set(logged) == {f"{stage}/{name}" for name in ("loss", "accuracy", "balanced")}
        assert logged[f"{stage}/loss"] == pytest.approx(log_loss(targets, logits.softmax(1)), rel=1e-5)
        assert logged[f"{stage}/accuracy"] == pytest.approx((logits.argmax(1) == targets).float().mean())
        expected_balance = balanced_accuracy_score(targets, logits.argmax(1))
        assert logged[f"{stage}/balanced"] == pytest.approx(expected_balance)


def test_features_come_from_the_network_or_from_a_subclass():
    class Cut(Own):
        def features(self, inputs):
            return inputs

    objective = CrossEntropy(CrossEntropyConfig())
    module = Own(ClassifierConfig(), objective=objective)
    assert not module.has_features
    assert Cut(ClassifierConfig(), objective=objective).has_features
    module.network.features = nn.Identity()
    assert module.has_features
