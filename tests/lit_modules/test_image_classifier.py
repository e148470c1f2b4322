import copy
from dataclasses import replace

import lightning as L
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules.info import ImageInfo
from lit_modules.configs.image_classifier import (
    ClassicCNNConfig,
    ImageClassifierConfig,
    MLPConfig,
    ResidualCNNConfig,
    VisionTransformerConfig,
)
from lit_modules.configs.objective import CrossEntropyConfig
from lit_modules.configs.optim import SGDConfig
from lit_modules.image_classifier import ImageClassifier
from lit_modules.objective import CrossEntropy

INFO = ImageInfo(input_shape=(1, 8, 8), class_names=("a", "b", "c"), mean=(0.5,), std=(0.25,))
SMOOTHED = CrossEntropy(CrossEntropyConfig(label_smoothing=0.3))
CONFIGS = [
    MLPConfig(hidden=[9]),
    ResidualCNNConfig(widths=[4, 8], blocks=[0, 1]),
    ClassicCNNConfig(),
    VisionTransformerConfig(depth=1, width=8, num_heads=2, pooling="attention"),
]


def _batch(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    return images, torch.randint(0, 3, (count,), generator=generator)


def _loader(images, targets, size):
    return DataLoader(TensorDataset(images, targets), batch_size=size)


def _trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_every_network_gives_logits_features_and_a_loss_to_descend(config):
    torch.manual_seed(0)
    module = ImageClassifier(config, INFO)
    images, targets = _batch()
    step = module.training_step((images, targets), 0)
    assert step["logits"].shape == (6, 3)
    assert not step["logits"].requires_grad
    assert step["targets"] is targets
    step["loss"].backward()
    assert all(p.grad is not None for p in module.parameters())
    module.eval()
    features = module.features(images)
    assert features.shape[0] == 6
    torch.testing.assert_close(module.network.head(features), module(images))


def test_label_smoothing_is_for_training_only():
    torch.manual_seed(0)
    module = ImageClassifier(MLPConfig(hidden=[9]), INFO, objective=SMOOTHED)
    images, targets = _batch()
    logits = module(images)
    smooth = 0.7 * F.one_hot(targets, 3) + 0.1  # 0.3 spread over three classes
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(module.training_step((images, targets), 0)["loss"], expected)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_logged_loss_and_accuracy_are_those_of_all_samples_together(stage):
    torch.manual_seed(0)
    module = ImageClassifier(MLPConfig(hidden=[9]), INFO, objective=SMOOTHED)
    images, targets = _batch(10)
    loader = _loader(images, targets, 4)  # the last batch has two
    trainer = _trainer()
    for _ in range(2):  # the second pass shows that nothing is left of the first
        run = trainer.validate if stage == "val" else trainer.test
        (metrics,) = run(module, loader, verbose=False)
        logits = module(images).detach()
        assert metrics[f"{stage}/loss"] == pytest.approx(
            sklearn.metrics.log_loss(targets, logits.double().softmax(1), labels=[0, 1, 2]), rel=1e-5
        )
        assert metrics[f"{stage}/accuracy"] == pytest.approx(
            sklearn.metrics.accuracy_score(targets, logits.argmax(1))
        )


def test_a_loss_that_is_no_number_is_reported_as_such():
    module = ImageClassifier(MLPConfig(hidden=[9]), INFO)
    nn.init.constant_(module.network.head.bias, float("nan"))
    loader = _loader(*_batch(), size=3)
    (metrics,) = _trainer().validate(module, loader, verbose=False)
    assert metrics["val/loss"] != metrics["val/loss"]


def test_learns_to_tell_three_patterns_apart():
    torch.manual_seed(0)
    patterns = torch.randn(3, 1, 8, 8)
    targets = torch.arange(96) % 3
    images = patterns[targets] + 0.5 * torch.randn(96, 1, 8, 8)
    train = _loader(images[:72], targets[:72], 12)
    test = _loader(images[72:], targets[72:], 24)
    module = ImageClassifier(
        ResidualCNNConfig(widths=[4, 8], blocks=[0, 1]), INFO, optimizer=SGDConfig(lr=0.1, momentum=0.9)
    )
    trainer = _trainer(max_epochs=8)
    trainer.fit(module, train, test)
    (metrics,) = trainer.test(module, test, verbose=False)
    assert metrics["test/accuracy"] > 0.9


def test_channels_last_changes_the_layout_and_not_the_function():
    torch.manual_seed(0)
    last = ImageClassifier(ResidualCNNConfig(widths=[4, 8], blocks=[0, 1]), INFO)
    first = ImageClassifier(ResidualCNNConfig(widths=[4, 8], blocks=[0, 1], channels_last=False), INFO)
    first.load_state_dict(copy.deepcopy(last.state_dict()))
    images, _ = _batch()
    layouts = {}
    for name, module in (("last", last), ("first", first)):
        module.eval()
        maps = module.network.body(images)
        layouts[name] = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
    assert layouts == {"last": True, "first": False}
    torch.testing.assert_close(last(images), first(images))


def test_logits_of_half_precision_are_lifted_before_the_loss():
    module = ImageClassifier(MLPConfig(hidden=[9]), INFO)
    images, targets = _batch()
    with torch.autocast("cpu", torch.bfloat16):
        assert module(images).dtype == torch.bfloat16
        step = module.training_step((images, targets), 0)
    assert step["logits"].dtype == step["loss"].dtype == torch.float32
    step = module.double().training_step((images.double(), targets), 0)
    assert step["loss"].dtype == torch.float64


def test_a_subclass_brings_its_own_network():
    class Linear(ImageClassifier):
        def build_network(self, config, info):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, len(info.class_names)))

    images, targets = _batch()
    module = Linear(ImageClassifierConfig(), INFO)
    expected = F.cross_entropy(module.network(images), targets)
    torch.testing.assert_close(module.training_step((images, targets), 0)["loss"], expected)


def test_refuses_a_config_without_a_network_and_images_that_are_too_small():
    with pytest.raises(ValueError, match=r"ImageClassifierConfig.*build_network"):
        ImageClassifier(ImageClassifierConfig(), INFO)
    with pytest.raises(ValueError, match="8×8"):
        ImageClassifier(ClassicCNNConfig(), replace(INFO, input_shape=(1, 4, 4)))


def test_config_names_the_key_that_is_wrong():
    with pytest.raises(ValueError, match=r"blocks: \[1\] and widths \[4, 8\]"):
        ResidualCNNConfig(widths=[4, 8], blocks=[1])
    with pytest.raises(ValueError, match="stem_kernel: 4"):
        ResidualCNNConfig(stem_kernel=4)
