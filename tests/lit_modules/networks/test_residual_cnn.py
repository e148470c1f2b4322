import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lit_modules.networks.residual_cnn import ResidualCNN, residual_block


def test_block_is_the_identity_where_its_branch_is_zero():
    block = residual_block(width=4, activation="relu")
    nn.init.zeros_(block.block[4].weight)
    x = torch.randn(2, 4, 5, 7)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


def test_matches_the_formula_written_with_functional_calls():
    torch.manual_seed(0)
    net = ResidualCNN(
        image_shape=(2, 12, 9), num_classes=3, widths=[4, 6], blocks=[0, 1], stem_kernel=5, stem_stride=2
    ).double()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    net.eval()
    weights = dict(net.state_dict())

    def normed(x, prefix):
        w = {key: weights[f"{prefix}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(x, **w)

    images = torch.randn(3, 2, 12, 9, dtype=torch.float64)
    x = F.relu(normed(F.conv2d(images, weights["body.0.weight"], stride=2, padding=2), "body.1"))
    x = F.max_pool2d(F.conv2d(x, weights["body.3.weight"], padding=1), 2)
    x = F.relu(normed(x, "body.5"))
    branch = F.relu(normed(F.conv2d(x, weights["body.7.block.0.weight"], padding=1), "body.7.block.1"))
    x = x + F.relu(normed(F.conv2d(branch, weights["body.7.block.3.weight"], padding=1), "body.7.block.4"))
    expected = x.amax((2, 3))
    torch.testing.assert_close(net.features(images), expected)
    torch.testing.assert_close(net(images), F.linear(expected, weights["head.weight"], weights["head.bias"]))


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 9, 15)])
def test_takes_any_image_and_reaches_every_parameter(shape, stem_stride, pooling):
    torch.manual_seed(0)
    net = ResidualCNN(
        image_shape=shape,
        num_classes=7,
        widths=[4, 6, 8],
        blocks=[1, 0, 2],
        stem_kernel=3,
        stem_stride=stem_stride,
        pooling=pooling,
    )
    logits = net(torch.randn(5, *shape))
    assert logits.shape == (5, 7)
    F.cross_entropy(logits, torch.arange(5)).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_a_batch_in_evaluation_is_its_images_one_by_one_and_any_memory_layout():
    torch.manual_seed(0)
    net = ResidualCNN(image_shape=(3, 10, 8), num_classes=4, widths=[4, 8], blocks=[1, 1]).double().eval()
    images = torch.randn(3, 10, 8, 4, dtype=torch.float64).permute(3, 0, 1, 2)  # not contiguous
    together = net(images)
    torch.testing.assert_close(together, torch.cat([net(image[None]) for image in images.contiguous()]))
    net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(images), together)


def test_dropout_acts_on_features_in_training_only():
    torch.manual_seed(0)
    net = ResidualCNN(image_shape=(1, 8, 8), num_classes=4, widths=[4], blocks=[0], dropout=0.5)
    images = torch.randn(6, 1, 8, 8)
    assert not torch.equal(net(images), net(images))
    net.eval()
    torch.testing.assert_close(net(images), net.head(net.features(images)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_shape": (1, 7, 28)}, r"\(1, 7, 28\).*8×8"),
        ({"image_shape": (28, 28)}, r"\(28, 28\)"),
        ({"blocks": [1]}, r"\[4, 8\].*\[1\]"),
        ({"widths": [], "blocks": []}, "at least 1"),
        ({"widths": [4] * 4, "blocks": [0] * 4}, "4 times.*8×8"),
        ({"stem_kernel": 4}, "stem_kernel is 4"),
        ({"stem_stride": 3}, "stem_stride is 3"),
        ({"pooling": "sum"}, "'sum'"),
        ({"activation": "swoosh"}, "'swoosh'"),
    ],
)
def test_refuses_what_cannot_be_built(arguments, words):
    good = {"image_shape": (1, 8, 8), "num_classes": 4, "widths": [4, 8], "blocks": [0, 1]}
    with pytest.raises(ValueError, match=words):
        ResidualCNN(**{**good, **arguments})


def test_each_stage_halves_the_maps_whichever_way_the_stem_does():
    for stride, side in itertools.product([1, 2], [8, 16, 28]):
        net = ResidualCNN(
            image_shape=(1, side, side), num_classes=2, widths=[3, 5], blocks=[0, 0], stem_stride=stride
        )
        assert net.body(torch.zeros(2, 1, side, side)).shape == (2, 5, side // 4, side // 4)
