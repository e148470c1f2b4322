from dataclasses import replace

import lightning as L
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules.info import ImageInfo, VectorPairInfo
from lit_modules.configs.objective import MSEL1CosineConfig
from lit_modules.configs.optim import AdamConfig
from lit_modules.configs.steering import SteeringConfig
from lit_modules.objective import MSEL1Cosine, Objective
from lit_modules.steering import Steering

INFO = VectorPairInfo(input_shape=(6,), mean=(0.5,) * 6, std=(2.0,) * 6, target_scale=7.0)


def pairs(count: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, 6, generator=generator)
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(9))
    return states, states @ weight


def trainer(**options: int) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def loader(states: Tensor, targets: Tensor, size: int) -> DataLoader:
    return DataLoader(TensorDataset(states, targets), batch_size=size)


def test_formula_8_is_the_mean_squared_error() -> None:
    module = Steering(SteeringConfig(hidden=5), INFO)
    states, targets = pairs()
    step = module.training_step((states, targets), 0)
    torch.testing.assert_close(step["loss"], F.mse_loss(module(states), targets))
    assert not step["logits"].requires_grad
    assert step["targets"] is targets


def test_the_other_loss_adds_size_and_direction() -> None:
    module = Steering(SteeringConfig(hidden=5), INFO, objective=MSEL1Cosine(MSEL1CosineConfig()))
    states, targets = pairs()
    predicted = module(states)
    expected = F.mse_loss(predicted, targets) + F.l1_loss(predicted, targets)
    expected = expected - F.cosine_similarity(predicted, targets).mean()
    torch.testing.assert_close(module.training_step((states, targets), 0)["loss"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [None, MSEL1Cosine(MSEL1CosineConfig())], ids=["mse", "mse_l1_cosine"])
@pytest.mark.parametrize("stage", ["val", "test"])
def test_logged_figures_are_those_of_all_pairs_together(stage: str, objective: Objective | None) -> None:
    torch.manual_seed(0)
    module = Steering(SteeringConfig(hidden=5), INFO, objective=objective)
    states, targets = pairs(10)
    batches = loader(states, targets, 4)  # the last batch has two
    for _ in range(2):  # the second pass shows that nothing is left of the first
        run = trainer().validate if stage == "val" else trainer().test
        (metrics,) = run(module, batches, verbose=False)
        predicted = module(states).detach()
        assert metrics[f"{stage}/loss"] == pytest.approx(
            sklearn.metrics.mean_squared_error(targets, predicted), rel=1e-5
        )
        assert metrics[f"{stage}/r2"] == pytest.approx(
            sklearn.metrics.r2_score(targets, predicted, multioutput="variance_weighted"), abs=1e-5
        )
        assert metrics[f"{stage}/cosine"] == pytest.approx(
            F.cosine_similarity(predicted, targets).mean().item(), rel=1e-4
        )


def test_the_data_says_what_is_normalised_by() -> None:
    module = Steering(SteeringConfig(hidden=5, normalize_inputs=True, normalize_targets=True), INFO)
    assert module.network.input_mean.tolist() == [0.5] * 6
    assert module.network.input_std.tolist() == [2.0] * 6
    assert module.network.output_scale == 7
    plain = Steering(SteeringConfig(hidden=5), INFO)
    assert plain.network.output_scale == 1
    assert plain.network.input_mean.tolist() == [0] * 6


def test_what_is_too_short_is_told_in_the_vectors_lengths() -> None:
    network = Steering(SteeringConfig(hidden=5, min_length=0.5), INFO).network
    assert network.min_length == pytest.approx(0.5 * 7 * 6**0.5)  # 6 entries of root mean square 7
    assert Steering(SteeringConfig(hidden=5), INFO).network.min_length == 0
    assert network.equal_length is None
    equal = Steering(SteeringConfig(hidden=5, equal_length=True), INFO).network
    assert equal.equal_length == pytest.approx(7 * 6**0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "worst"), [({"skip": "linear"}, 0.02), ({"hidden_bias": 2.0}, 0.1)])
def test_learns_a_linear_map(settings: dict, worst: float) -> None:
    torch.manual_seed(0)
    module = Steering(SteeringConfig(hidden=16, **settings), INFO, optimizer=AdamConfig(lr=0.02))
    run = trainer(max_epochs=20)
    run.fit(module, loader(*pairs(256), 16), loader(*pairs(32, 1), 32))
    (metrics,) = run.test(module, loader(*pairs(64, 2), 32), verbose=False)
    assert metrics["test/loss"] < worst
    assert metrics["test/r2"] > 0.98
    assert metrics["test/cosine"] > 0.98


def test_half_precision_is_lifted_before_the_loss() -> None:
    module = Steering(SteeringConfig(hidden=5), INFO)
    states, targets = pairs()
    with torch.autocast("cpu", torch.bfloat16):
        step = module.training_step((states, targets), 0)
    assert step["logits"].dtype == step["loss"].dtype == torch.float32


def test_refuses_data_without_pairs() -> None:
    images = ImageInfo(input_shape=(1, 8, 8), class_names=("a",), mean=(0.1,), std=(0.3,))
    with pytest.raises(ValueError, match=r"data of the kind 'images'; choose data\.name steering_pairs"):
        Steering(SteeringConfig(), images)
    with pytest.raises(ValueError, match="all training targets are zero"):
        Steering(SteeringConfig(), replace(INFO, target_scale=0.0))
