import pytest
import torch
from torch import Tensor, nn

from lit_modules.networks.steering_mlp import SteeringMLP

MEAN, STD = [0.5, -1.0, 2.0, 0.0], [2.0, 0.5, 1.0, 3.0]


def states(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_is_two_linear_layers_with_an_activation_between(activation: str) -> None:
    torch.manual_seed(0)
    network = SteeringMLP(width=4, hidden=7, activation=activation)
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Linear(4, 7), nn.ReLU() if activation == "relu" else nn.Tanh(), nn.Linear(7, 4))
    torch.testing.assert_close(network(states(5, 4)), theirs(states(5, 4)), rtol=0, atol=0)
    torch.testing.assert_close(network(states(2, 3, 4))[1, 2], theirs(states(2, 3, 4)[1, 2]))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_every_option_is_in_the_formula(activation: str) -> None:
    torch.manual_seed(0)
    network = SteeringMLP(
        width=4,
        hidden=7,
        activation=activation,
        skip="linear",
        hidden_bias=1.5,
        input_mean=MEAN,
        input_std=STD,
        output_scale=45.0,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    phi = torch.relu if activation == "relu" else torch.tanh
    x = (states(5, 4) - torch.tensor(MEAN)) / torch.tensor(STD)
    units = phi(x @ network.hidden.weight.T + network.hidden.bias) - phi(torch.tensor(1.5))
    expected = units @ network.output.weight.T + network.output.bias + x @ network.skip.weight.T
    torch.testing.assert_close(network(states(5, 4)), 45.0 * expected)


def test_high_hidden_biases_make_it_start_as_a_linear_map_through_its_units() -> None:
    torch.manual_seed(0)
    network = SteeringMLP(width=4, hidden=3, hidden_bias=20.0)
    zero = network(torch.zeros(4))
    responses = network(torch.eye(4)) - zero
    torch.testing.assert_close(network(states(6, 4)), states(6, 4) @ responses + zero, rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(responses, tol=1e-4) == 3
    torch.testing.assert_close(zero, network.output.bias)
    bent = SteeringMLP(width=4, hidden=3)
    responses = bent(torch.eye(4)) - bent(torch.zeros(4))
    assert not torch.allclose(bent(states(6, 4)), states(6, 4) @ responses + bent(torch.zeros(4)), atol=1e-3)


def test_a_skip_starts_from_zero_and_lets_gradients_through() -> None:
    network = SteeringMLP(width=4, hidden=3, skip="linear")
    torch.testing.assert_close(network(states(5, 4)), network.output.bias.expand(5, 4))
    network(states(5, 4)).square().sum().backward()
    assert network.skip.weight.grad.abs().sum() > 0
    assert network.output.weight.grad.abs().sum() > 0


def test_an_input_that_never_changed_is_not_divided_by_zero() -> None:
    network = SteeringMLP(width=4, hidden=3, input_mean=MEAN, input_std=[1.0, 0.0, 1.0, 0.0])
    assert network(states(5, 4)).isfinite().all()
    assert network.input_std.tolist() == [1, 1, 1, 1]


def test_what_it_was_normalised_by_is_saved_with_the_weights() -> None:
    network = SteeringMLP(width=4, hidden=3, input_mean=MEAN, input_std=STD)
    fresh = SteeringMLP(width=4, hidden=3)
    fresh.load_state_dict(network.state_dict())
    torch.testing.assert_close(fresh(states(5, 4)), network(states(5, 4)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"activation": "gelu"}, "activation is 'gelu', expected one of 'relu', 'tanh'"),
        ({"skip": "identity"}, "skip is 'identity', expected one of 'none', 'linear'"),
        ({"input_mean": [0.0]}, "input_mean has 1 entries, expected the width 4"),
        ({"input_std": [1.0] * 5}, "input_std has 5 entries, expected the width 4"),
    ],
)
def test_refuses_what_does_not_fit(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SteeringMLP(width=4, hidden=3, **settings)


def test_dropout_is_of_inputs_and_hidden_units_in_training_alone() -> None:
    torch.manual_seed(0)
    network = SteeringMLP(width=4, hidden=7, dropout=0.5)
    torch.manual_seed(0)
    theirs = nn.Sequential(
        nn.Dropout(0.5), nn.Linear(4, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 4)
    )  # the same draws
    torch.manual_seed(1)
    made = network(states(5, 4))
    torch.manual_seed(1)
    torch.testing.assert_close(made, theirs(states(5, 4)), rtol=0, atol=0)
    whole = network.eval()(states(5, 4))
    assert not torch.equal(made, whole)
    torch.testing.assert_close(whole, theirs.eval()(states(5, 4)), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        SteeringMLP(width=4, hidden=7, dropout=1.0)


def test_short_vectors_become_zero_in_evaluation() -> None:
    torch.manual_seed(0)
    network = SteeringMLP(width=4, hidden=7)
    made = network(states(50, 4)).detach()
    lengths = made.norm(dim=-1)
    network.min_length = float(lengths.median())
    kept = network.eval()(states(50, 4)).detach()
    assert torch.equal(kept[lengths < network.min_length], torch.zeros(24, 4))
    assert torch.equal(kept[lengths >= network.min_length], made[lengths >= network.min_length])
    assert torch.equal(network.train()(states(50, 4)), made)


def test_equal_lengths_keep_the_direction_and_leave_zeros_in_evaluation() -> None:
    torch.manual_seed(0)
    network = SteeringMLP(width=4, hidden=7)
    made = network(states(50, 4)).detach()
    network.min_length, network.equal_length = float(made.norm(dim=-1).median()), 3.0
    scaled = network.eval()(states(50, 4)).detach()
    kept = made.norm(dim=-1) >= network.min_length
    assert torch.equal(scaled[~kept], torch.zeros(24, 4))
    torch.testing.assert_close(scaled[kept].norm(dim=-1), torch.full((26,), 3.0))
    torch.testing.assert_close(nn.functional.cosine_similarity(scaled[kept], made[kept]), torch.ones(26))
    assert torch.equal(network.train()(states(50, 4)), made)
