import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lit_modules.networks.mlp import MLP


def test_matches_the_formula_with_its_own_weights():
    torch.manual_seed(0)
    net = MLP(input_shape=(2, 3, 5), num_outputs=4, hidden=[7, 6]).double()
    images = torch.randn(3, 2, 3, 5, dtype=torch.float64)
    (w1, b1), (w2, b2), (w3, b3) = [(m.weight, m.bias) for m in net.modules() if isinstance(m, nn.Linear)]
    hidden = (images.reshape(3, -1) @ w1.T + b1).clamp_min(0)
    hidden = (hidden @ w2.T + b2).clamp_min(0)
    torch.testing.assert_close(net.features(images), hidden)
    torch.testing.assert_close(net(images), hidden @ w3.T + b3)


def test_classic_perceptron_has_the_parameters_counted_by_hand():
    net = MLP(input_shape=(1, 28, 28), num_outputs=10, hidden=[512, 256, 128, 64])
    expected = 785 * 512 + 513 * 256 + 257 * 128 + 129 * 64 + 65 * 10
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "function"), [("relu", F.relu), ("gelu", F.gelu), ("silu", F.silu), ("sigmoid", torch.sigmoid)]
)
def test_activation_is_pytorchs(name, function):
    net = MLP(input_shape=(1, 8, 8), num_outputs=3, hidden=[5], activation=name)
    images = torch.randn(4, 1, 8, 8)
    first = next(m for m in net.modules() if isinstance(m, nn.Linear))
    torch.testing.assert_close(net.features(images), function(first(images.flatten(1))))


def test_batch_norm_makes_training_blind_to_scale_and_offset_of_the_input():
    torch.manual_seed(0)
    net = MLP(input_shape=(1, 8, 8), num_outputs=3, hidden=[16, 8], norm="batch_norm").double()
    images = torch.randn(32, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(net(1e3 * images + 5), net(images), rtol=1e-4, atol=1e-4)
    plain = MLP(input_shape=(1, 8, 8), num_outputs=3, hidden=[16, 8]).double()
    assert (plain(1e3 * images + 5) - plain(images)).abs().max() > 1


def test_dropout_zeroes_its_share_in_training_and_nothing_in_evaluation():
    torch.manual_seed(0)
    net = MLP(input_shape=(1, 8, 8), num_outputs=3, hidden=[1000], activation="gelu", dropout=0.25)
    images = torch.randn(50, 1, 8, 8)
    share = (net.features(images) == 0).double().mean().item()
    assert share == pytest.approx(0.25, abs=0.02)
    net.eval()
    assert (net.features(images) == 0).sum() == 0
    torch.testing.assert_close(net(images), net(images), rtol=0, atol=0)


def test_without_hidden_layers_it_is_linear():
    net = MLP(input_shape=(1, 8, 8), num_outputs=3, hidden=[]).double()
    a, b = torch.randn(2, 4, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(net(a + b) + net(torch.zeros_like(a)), net(a) + net(b))


def test_refuses_an_input_without_shape_and_an_unknown_activation():
    with pytest.raises(ValueError, match="input_shape"):
        MLP(input_shape=(), num_outputs=10, hidden=[4])
    with pytest.raises(ValueError, match="'tanhh'"):
        MLP(input_shape=(1, 8, 8), num_outputs=10, hidden=[4], activation="tanhh")
    with pytest.raises(ValueError, match="'group_norm', expected one of 'batch_norm', 'layer_norm'"):
        MLP(input_shape=(1, 8, 8), num_outputs=10, hidden=[4], norm="group_norm")


@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("batch_norm", lambda x: F.batch_norm(x, None, None, training=True)),
        ("layer_norm", lambda x: F.layer_norm(x, (6,))),
        ("rms_norm", lambda x: F.rms_norm(x, (6,), eps=1e-6)),
    ],
)
def test_each_norm_comes_before_the_activation(name, function, implementation):
    torch.manual_seed(0)
    shape = {"input_shape": (5,), "num_outputs": 3, "hidden": [6]}
    net = MLP(**shape, norm=name, implementation=implementation).double()
    inputs = torch.randn(7, 5, dtype=torch.float64)
    first = net.body[0]
    assert (first.bias is None) == (name == "batch_norm")
    torch.testing.assert_close(net.features(inputs), function(first(inputs)).relu())


def test_a_residual_layer_adds_its_input_where_the_width_stays():
    torch.manual_seed(0)
    net = MLP(input_shape=(5,), num_outputs=3, hidden=[6, 6, 4], residual=True).double()
    w1, w2, w3 = (m for m in net.body.modules() if isinstance(m, nn.Linear))
    inputs = torch.randn(7, 5, dtype=torch.float64)
    hidden = w1(inputs).relu()
    hidden = hidden + w2(hidden).relu()
    torch.testing.assert_close(net.features(inputs), w3(hidden).relu())


@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
def test_he_weights_keep_signal_and_gradient_through_twenty_relu_layers(implementation):
    """PyTorch's initial weights lose a factor √6 a layer: the variance is 1/(3n) instead of 2/n."""
    lost = {}
    for weight_init in ("default", "he"):
        torch.manual_seed(0)
        shape = {"input_shape": (64,), "num_outputs": 10, "hidden": [64] * 20}
        net = MLP(**shape, weight_init=weight_init, implementation=implementation).double()
        net.body.requires_grad_(False)
        inputs = torch.randn(256, 64, dtype=torch.float64, requires_grad=True)
        features = net.features(inputs)
        (features * torch.randn_like(features)).sum().backward()
        lost[weight_init] = [features.norm() / inputs.norm(), inputs.grad.norm() / 128]
    assert all(0.1 < ratio < 10 for ratio in lost["he"])
    assert lost["default"][1] < 1e-5


def test_he_weights_have_their_variance_and_leave_the_rest_alone():
    nets = {}
    for weight_init in ("default", "he"):
        torch.manual_seed(0)
        nets[weight_init] = MLP(input_shape=(400,), num_outputs=3, hidden=[300, 200], weight_init=weight_init)
    for layer in (m for m in nets["he"].body if isinstance(m, nn.Linear)):
        variance = 2 / layer.in_features
        assert layer.weight.var().item() == pytest.approx(variance, rel=0.03)
        assert layer.weight.mean().item() == pytest.approx(
            0, abs=3 * (variance / layer.weight.numel()) ** 0.5
        )
        assert not layer.bias.any()
    assert nets["he"].head.weight.std().item() == pytest.approx((1 / 3 / 200) ** 0.5, rel=0.1)
    with pytest.raises(ValueError, match="weight_init"):
        MLP(input_shape=(4,), num_outputs=3, hidden=[3], weight_init="xavier")
