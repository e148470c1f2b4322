import copy
import io
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from lit_modules.configs.optim import AdadeltaConfig, AdamConfig, AdamWConfig, MuonConfig, SGDConfig
from lit_modules.optim.adamw import AdamW
from lit_modules.optim.optimizers import build_optimizer, make_optimizer

CONFIGS = [
    SGDConfig(),
    SGDConfig(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    AdamConfig(weight_decay=0.1),
    AdamWConfig(),
    AdamWConfig(implementation="by_hand"),
    SGDConfig(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1, implementation="by_hand"),
    AdamConfig(weight_decay=0.1, implementation="by_hand"),
    MuonConfig(weight_decay=0.1, implementation="by_hand"),
    AdadeltaConfig(),
    MuonConfig(weight_decay=0.1),
]


class Net(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.norm = nn.LayerNorm((6, 5))
        self.batch_norm = nn.BatchNorm1d(6)
        self.rnn = nn.GRU(5, 4)
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.Linear(3, 3)
        self.frozen.requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens).mT  # (B, 6, 5)
        hidden = self.batch_norm(self.norm(self.conv(hidden)))
        return self.frozen(self.head(self.rnn(hidden)[0])) * self.scale


DECAYED = {"conv.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "head.weight"}
UNDECAYED = {
    "embedding.weight",
    "conv.bias",
    "norm.weight",
    "norm.bias",
    "batch_norm.weight",
    "batch_norm.bias",
    "rnn.bias_ih_l0",
    "rnn.bias_hh_l0",
    "head.bias",
    "scale",
}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def take_steps(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        tokens = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(tokens).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_groups_hold_each_trainable_parameter_once(net, config) -> None:
    optimizer = build_optimizer(net, config)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    trainable = {id(parameter) for parameter in net.parameters() if parameter.requires_grad}
    assert len(held) == len(set(held))
    assert set(held) == trainable
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    for group in optimizer.param_groups:
        if group.get("weight_decay", 0.0) > 0.0:
            assert {names[id(parameter)] for parameter in group["params"]} <= DECAYED


def test_frozen_parameters_stay_and_undecayed_ones_do_not_shrink(net) -> None:
    before = copy.deepcopy(net.state_dict())
    optimizer = build_optimizer(net, AdamWConfig(weight_decay=0.5, lr=0.1))
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in net.named_parameters():
        expected = before[name] * (0.95 if name in DECAYED else 1.0)
        torch.testing.assert_close(parameter.detach(), expected, msg=name)


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (SGDConfig(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1, foreach=False)),
        (
            SGDConfig(lr=0.1, momentum=0.9, nesterov=True),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, foreach=False),
        ),
        (
            AdamConfig(lr=0.01, betas=[0.8, 0.9], eps=1e-5),
            lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.9), eps=1e-5, foreach=False),
        ),
        (
            AdamWConfig(lr=0.01, betas=[0.8, 0.9], eps=1e-5, weight_decay=0.0),
            lambda p: torch.optim.AdamW(
                p, lr=0.01, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.0, foreach=False
            ),
        ),
        (
            AdamWConfig(lr=0.01, betas=[0.8, 0.9], eps=1e-5, weight_decay=0.0, implementation="by_hand"),
            lambda p: torch.optim.AdamW(
                p, lr=0.01, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.0, foreach=False
            ),
        ),
        (AdadeltaConfig(lr=0.5, rho=0.8), lambda p: torch.optim.Adadelta(p, lr=0.5, rho=0.8, foreach=False)),
    ],
    ids=["sgd", "nesterov", "adam", "adamw", "adamw_by_hand", "adadelta"],
)
def test_every_option_reaches_the_optimizer(net, config, reference) -> None:
    ours, theirs = net.double(), copy.deepcopy(net).double()
    take_steps(ours, build_optimizer(ours, config), range(4))
    take_steps(theirs, reference([p for p in theirs.parameters() if p.requires_grad]), range(4))
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    "config",
    [
        SGDConfig(lr=0.1, weight_decay=0.1),
        SGDConfig(lr=0.1, momentum=0.9, weight_decay=0.1),
        SGDConfig(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        AdamConfig(lr=0.01, betas=[0.8, 0.9], eps=1e-5, weight_decay=0.1),
        AdamWConfig(lr=0.01, betas=[0.8, 0.9], eps=1e-5, weight_decay=0.1),
        MuonConfig(lr=0.01, adamw_lr=0.02, adamw_betas=[0.8, 0.9], adamw_eps=1e-5, weight_decay=0.1),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw", "muon"],
)
def test_by_hand_an_optimizer_takes_the_steps_of_pytorchs(net, config) -> None:
    theirs, ours = net.double(), copy.deepcopy(net).double()
    by_hand = build_optimizer(ours, replace(config, implementation="by_hand"))
    take_steps(theirs, build_optimizer(theirs, config), range(5))
    take_steps(ours, by_hand, range(5))
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12, msg=name)
    assert not isinstance(by_hand, torch.optim.SGD | torch.optim.Adam | torch.optim.AdamW)


def test_adamw_runs_fused_unless_by_hand(net) -> None:
    fused = build_optimizer(net, AdamWConfig())
    assert isinstance(fused, torch.optim.AdamW)
    assert fused.defaults["fused"] is True
    assert isinstance(build_optimizer(net, AdamWConfig(implementation="by_hand")), AdamW)


def test_muon_takes_hidden_matrices_and_adamw_the_rest(net) -> None:
    config = MuonConfig(lr=0.02, adamw_lr=0.003, weight_decay=0.1, momentum=0.8, newton_schulz_steps=3)
    optimizer = build_optimizer(net, config)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = [
        (group["rule"], group["lr"], group["weight_decay"], {names[id(p)] for p in group["params"]})
        for group in optimizer.param_groups
    ]
    assert groups == [
        ("muon", 0.02, 0.1, DECAYED - {"head.weight"}),
        ("adamw", 0.003, 0.1, {"head.weight"}),
        ("adamw", 0.003, 0.0, UNDECAYED),
    ]
    assert optimizer.param_groups[0]["momentum"] == 0.8
    assert optimizer.param_groups[0]["newton_schulz_steps"] == 3


def test_muon_patterns_choose_adamws_matrices_and_a_single_row_is_no_matrix() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 1, bias=False))
    optimizer = build_optimizer(net, MuonConfig(adamw_parameters=["1.*"]))
    rules = {id(p): group["rule"] for group in optimizer.param_groups for p in group["params"]}
    assert [rules[id(layer.weight)] for layer in net] == ["muon", "adamw", "adamw"]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_state_survives_a_file_of_plain_data_to_the_bit(net, config) -> None:
    optimizer = build_optimizer(net, config)
    take_steps(net, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    take_steps(net, optimizer, range(3, 6))

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Net()
    resumed_optimizer = build_optimizer(resumed, config)
    resumed.load_state_dict(saved["net"])
    resumed_optimizer.load_state_dict(saved["optimizer"])
    take_steps(resumed, resumed_optimizer, range(3, 6))
    for mine, other in zip(net.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(optimizer.state.values(), resumed_optimizer.state.values(), strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.equal(torch.as_tensor(mine[key]), torch.as_tensor(other[key])) for key in mine)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_lightning_clips_under_mixed_precision(net, config) -> None:
    optimizer = build_optimizer(net, config)
    net(torch.randint(11, (2, 5))).square().sum().mul(1e3).backward()
    MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 0.5)
    norm = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm()
    assert norm == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("config", [SGDConfig(), AdamWConfig()], ids=str)
def test_fused_steps_under_a_gradient_scaler_are_unscaled(config) -> None:
    plain, scaled = nn.Linear(3, 2), nn.Linear(3, 2)
    scaled.load_state_dict(plain.state_dict())
    inputs = torch.randn(4, 3)
    plain_optimizer, scaled_optimizer = build_optimizer(plain, config), build_optimizer(scaled, config)
    plain(inputs).square().mean().backward()
    plain_optimizer.step()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(scaled(inputs).square().mean()).backward()
    scaler.step(scaled_optimizer)
    torch.testing.assert_close(scaled.weight, plain.weight)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="Linear has no parameter that requires a gradient"):
        build_optimizer(nn.Linear(2, 2).requires_grad_(False), SGDConfig())
    with pytest.raises(ValueError, match="ReLU has no parameter"):
        build_optimizer(nn.ReLU(), SGDConfig())


def test_a_config_of_ones_own_can_be_registered(net) -> None:
    class OwnConfig:
        pass

    with pytest.raises(ValueError, match="no optimizer is known for a config of type OwnConfig"):
        build_optimizer(net, OwnConfig())

    @make_optimizer.register
    def _(config: OwnConfig, decayed: dict, undecayed: dict) -> torch.optim.Optimizer:
        return torch.optim.RMSprop([*decayed.values(), *undecayed.values()])

    assert isinstance(build_optimizer(net, OwnConfig()), torch.optim.RMSprop)


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (SGDConfig(lr=0.1, weight_decay=0.1), torch.optim.SGD),
        (AdamConfig(lr=0.1, weight_decay=0.1), torch.optim.Adam),
        (AdamWConfig(lr=0.1, weight_decay=0.1), torch.optim.AdamW),
        (AdamWConfig(lr=0.1, weight_decay=0.1, implementation="by_hand"), torch.optim.AdamW),
    ],
    ids=["sgd", "adam", "adamw", "adamw_by_hand"],
)
def test_decay_is_pytorchs_on_the_decayed_group(net, config, reference) -> None:
    ours, theirs = net.double(), copy.deepcopy(net).double()
    groups = [
        {"params": [p for name, p in theirs.named_parameters() if name in names], "weight_decay": decay}
        for names, decay in ((DECAYED, 0.1), (UNDECAYED, 0.0))
    ]
    take_steps(ours, build_optimizer(ours, config), range(3))
    take_steps(theirs, reference(groups, lr=0.1, foreach=False), range(3))
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12, msg=name)
