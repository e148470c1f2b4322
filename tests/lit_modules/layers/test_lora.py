import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from lit_modules.layers.linear import Linear
from lit_modules.layers.lora import (
    LoRALinear,
    apply_lora,
    load_lora_state_dict,
    lora_state_dict,
    scaled_copy,
)


def adapted(*, seed: int = 0, dtype: torch.dtype = torch.float64, bias: bool = True, **options) -> LoRALinear:
    """A layer of 5 inputs and 7 outputs whose update is no longer zero."""
    torch.manual_seed(seed)
    layer = LoRALinear(nn.Linear(5, 7, bias=bias, dtype=dtype), **{"rank": 3, "alpha": 6.0, **options})
    nn.init.normal_(layer.lora_b)
    return layer


def effective(layer: LoRALinear) -> Tensor:
    return layer.base.weight + layer.scale * layer.lora_b @ layer.lora_a


class Net(nn.Module):
    """An embedding tied to the output layer, two blocks, and a layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)) for _ in range(2)]
        )
        self.again = self.blocks[0][0]
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(self.again(hidden))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().double()


TOKENS = torch.tensor([[1, 4, 10], [0, 0, 7]])


@torch.no_grad()
def test_a_scaled_copy_shares_its_tensors_and_multiplies_its_updates(net: Net) -> None:
    plain = net(TOKENS)
    apply_lora(net, ["blocks.*.0"], rank=2, alpha=4.0)
    for layer in net.modules():
        if isinstance(layer, LoRALinear):
            nn.init.normal_(layer.lora_b)
    adapted, expected = net(TOKENS), copy.deepcopy(net)
    for layer in expected.modules():
        if isinstance(layer, LoRALinear):
            layer.lora_b *= 0.3
    torch.testing.assert_close(scaled_copy(net, 0.3)(TOKENS), expected(TOKENS), rtol=0, atol=1e-12)
    torch.testing.assert_close(scaled_copy(net, 0.0)(TOKENS), plain, rtol=0, atol=1e-12)
    assert torch.equal(scaled_copy(net, 1.0)(TOKENS), adapted)
    assert torch.equal(net(TOKENS), adapted)
    pointers = [[tensor.data_ptr() for tensor in one.parameters()] for one in (net, scaled_copy(net, 0.3))]
    assert pointers[0] == pointers[1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (0, 5), (2, 3, 5)])
def test_values_and_gradients_are_those_of_the_effective_weight(bias, shape) -> None:
    layer = adapted(bias=bias)
    inputs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    wanted = [inputs, layer.lora_a, layer.lora_b]
    mine, other = layer(inputs), F.linear(inputs, effective(layer), layer.base.bias)
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)
    for our_gradient, their_gradient in zip(
        torch.autograd.grad(mine.sin().sum(), wanted),
        torch.autograd.grad(other.sin().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-13)


def test_strides_of_the_inputs_do_not_matter() -> None:
    layer, inputs = adapted(), torch.randn(5, 8, dtype=torch.float64).T[::2]
    expected = F.linear(inputs.contiguous(), effective(layer), layer.base.bias)
    torch.testing.assert_close(layer(inputs), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_starts_as_the_base_itself(dtype) -> None:
    torch.manual_seed(0)
    base = nn.Linear(5, 7, dtype=dtype)
    inputs = torch.randn(4, 5).to(dtype)
    expected = base(inputs)
    assert torch.equal(LoRALinear(base, rank=2, alpha=16.0, dropout=0.5)(inputs), expected)


def test_scale_is_alpha_over_the_rank_or_its_root() -> None:
    assert adapted(rank=4, alpha=6.0).scale == 1.5
    assert adapted(rank=3, alpha=6.0, rank_stabilized=True).scale == pytest.approx(6 / math.sqrt(3))


def test_only_the_update_learns(net) -> None:
    layer = adapted()
    before = copy.deepcopy(layer.base.state_dict())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.1)
    layer(torch.randn(4, 5, dtype=torch.float64)).square().sum().backward()
    update = [layer.lora_a.detach().clone(), layer.lora_b.detach().clone()]
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in layer.base.state_dict().items())
    assert not torch.equal(layer.lora_a, update[0])
    assert not torch.equal(layer.lora_b, update[1])


def test_dropout_falls_on_the_updates_input_in_training_only() -> None:
    layer = adapted(dropout=0.5)
    inputs = torch.ones(2000, 5, dtype=torch.float64)
    base = layer.base(inputs)
    torch.manual_seed(1)
    dropped = F.dropout(inputs, 0.5)
    torch.manual_seed(1)
    expected = base + layer.scale * dropped @ layer.lora_a.T @ layer.lora_b.T
    torch.testing.assert_close(layer(inputs), expected, rtol=1e-10, atol=1e-12)
    expected = F.linear(inputs, effective(layer), layer.base.bias)
    torch.testing.assert_close(layer.eval()(inputs), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_merging_can_be_repeated_and_undone_to_the_bit(dtype) -> None:
    layer = adapted(dtype=dtype).eval()
    inputs = torch.randn(4, 5).to(dtype)
    expected, weight = layer(inputs), layer.base.weight.detach().clone()
    for _ in range(50):
        layer.merge()
        layer.merge()
        merged = layer(inputs)
        layer.unmerge()
        layer.unmerge()
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(merged, expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(layer.base.weight, weight)
    assert torch.equal(layer(inputs), expected)


def test_a_merged_layer_is_one_linear_layer() -> None:
    layer = adapted(dropout=0.9).eval()
    layer.merge()
    assert layer.merged
    inputs = torch.randn(4, 5, dtype=torch.float64)
    assert torch.equal(layer(inputs), F.linear(inputs, layer.weight, layer.bias))
    torch.testing.assert_close(layer.weight, effective(layer), rtol=1e-12, atol=1e-14)
    assert not layer.weight.requires_grad


def test_training_unmerges() -> None:
    layer = adapted().eval()
    layer.merge()
    layer.eval()
    assert layer.merged
    layer.train()
    assert not layer.merged
    layer(torch.randn(2, 5, dtype=torch.float64)).sum().backward()
    assert layer.lora_b.grad is not None


def test_a_merged_layer_follows_weights_that_are_loaded() -> None:
    layer, other = adapted(seed=0).eval(), adapted(seed=1).eval()
    layer.merge()
    layer.load_state_dict(other.state_dict())
    inputs = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(inputs), other(inputs), rtol=1e-10, atol=1e-12)


def test_a_merged_layers_state_holds_the_update_once() -> None:
    layer, fresh = adapted().eval(), adapted(seed=1).eval()
    inputs = torch.randn(4, 5, dtype=torch.float64)
    expected = layer(inputs)
    layer.merge()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(inputs), expected)


def test_half_precision_bases_learn_in_fp32() -> None:
    layer = adapted(dtype=torch.bfloat16)
    assert layer.lora_a.dtype == layer.lora_b.dtype == torch.float32
    inputs = torch.randn(64, 5).bfloat16()
    exact = F.linear(inputs.double(), effective(layer.double()), layer.base.bias)
    layer = adapted(dtype=torch.bfloat16)
    plain = F.linear(inputs, effective(layer).bfloat16(), layer.base.bias)
    output = layer(inputs)
    assert output.dtype == torch.bfloat16
    assert (output.double() - exact).norm() <= 1.5 * (plain.double() - exact).norm()


def test_pytorchs_layers_that_read_a_weight_get_the_adapted_one() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
    apply_lora(layer, ["linear?", "self_attn.out_proj"], rank=2, alpha=4.0)
    for module in layer.modules():
        if isinstance(module, LoRALinear):
            nn.init.normal_(module.lora_b)
    inputs = torch.randn(2, 3, 8, dtype=torch.float64)
    expected = layer(inputs)
    expected.sum().backward()
    assert all(module.lora_b.grad is not None for module in layer.modules() if isinstance(module, LoRALinear))
    with torch.no_grad():
        torch.testing.assert_close(layer.eval()(inputs), expected.detach(), rtol=1e-10, atol=1e-12)


def test_apply_adapts_what_matches_and_freezes_the_rest(net) -> None:
    expected = net(TOKENS)
    names = apply_lora(net, ["blocks.*.0", "blocks.1.2"], rank=2, alpha=4.0)
    assert set(names) == {"blocks.0.0", "blocks.1.0", "blocks.1.2"}
    assert torch.equal(net(TOKENS), expected)
    trainable = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trainable == {f"{name}.{part}" for name in names for part in ("lora_a", "lora_b")}


def test_a_layer_under_two_names_gets_one_update(net) -> None:
    apply_lora(net, ["blocks.0.0", "again"], rank=2, alpha=4.0)
    assert net.again is net.blocks[0][0]
    assert isinstance(net.again, LoRALinear)


def test_a_tied_weight_stays_what_it_is_elsewhere(net) -> None:
    embedded = net.embedding(TOKENS)
    apply_lora(net, ["head"], rank=2, alpha=4.0)
    nn.init.normal_(net.head.lora_b)
    net.eval()
    net.head.merge()
    assert torch.equal(net.embedding(TOKENS), embedded)
    assert net.head.base.weight is net.embedding.weight


def test_adapters_travel_alone(net) -> None:
    other = copy.deepcopy(net)
    for module in (net, other):
        apply_lora(module, ["blocks.*"], rank=2, alpha=4.0)
    for name, parameter in net.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter)
    state = lora_state_dict(net)
    assert len(state) == 8
    assert all(name.endswith((".lora_a", ".lora_b")) for name in state)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other.eval()
    other.blocks[0][0].merge()
    load_lora_state_dict(other, torch.load(file, weights_only=True))
    torch.testing.assert_close(other(TOKENS), net(TOKENS), rtol=1e-10, atol=1e-12)


def test_adapters_can_be_written_as_safetensors(net) -> None:
    apply_lora(net, ["blocks.*"], rank=2, alpha=4.0)
    state = lora_state_dict(net)
    loaded = load(save(state))
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_adapters_that_do_not_fit_are_refused(net) -> None:
    apply_lora(net, ["blocks.0.0"], rank=2, alpha=4.0)
    state = lora_state_dict(net)
    with pytest.raises(ValueError, match=r"missing \['blocks\.0\.0\.lora_b'\], unknown \['x'\]"):
        load_lora_state_dict(net, {"blocks.0.0.lora_a": state["blocks.0.0.lora_a"], "x": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"lora_a has shape \(3, 6\), the module needs \(2, 6\)"):
        load_lora_state_dict(net, state | {"blocks.0.0.lora_a": torch.zeros(3, 6)})


def test_what_cannot_be_adapted_is_refused(net) -> None:
    with pytest.raises(ValueError, match=r"no linear layer matches 'block\.\*'; there are blocks\.0\.0, "):
        apply_lora(net, ["blocks.0.0", "block.*"], rank=2, alpha=4.0)
    assert not lora_state_dict(net)  # nothing was changed
    assert all(parameter.requires_grad for parameter in net.parameters())
    apply_lora(net, ["blocks.0.0"], rank=2, alpha=4.0)
    with pytest.raises(ValueError, match=r"blocks\.0\.0 has a low-rank update already"):
        apply_lora(net, ["blocks.*"], rank=2, alpha=4.0)
    with pytest.raises(ValueError, match="rank is 0, expected at least 1"):
        adapted(rank=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        adapted(dropout=1.0)


@pytest.mark.parametrize("bias", [True, False])
def test_the_update_of_a_layer_by_hand_is_by_hand_and_the_same(bias: bool, monkeypatch) -> None:
    layers = []
    for kind in (nn.Linear, Linear):
        torch.manual_seed(0)
        layers.append(LoRALinear(kind(5, 7, bias=bias).double(), rank=3, alpha=6.0, dropout=0.5))
        nn.init.normal_(layers[-1].lora_b)
    inputs, outputs = torch.randn(4, 5, dtype=torch.float64), []
    for layer in layers:
        torch.manual_seed(1)
        outputs += [layer(inputs)]
        layer.eval().merge()
        outputs += [layer(inputs)]
    torch.testing.assert_close(outputs[2:], outputs[:2], rtol=1e-10, atol=1e-12)
    monkeypatch.setattr(F, "linear", None)
    monkeypatch.setattr(F, "dropout", None)
    layers[1].train()(inputs)
