import pytest
import torch

from experiments.benchmark import __main__ as command
from experiments.benchmark import launches
from experiments.config.check import load_config

SMALL = ("trainer.precision=32-true", *launches.QUICK)
LIMITS = {"mnist_cnn": 162, "lm_char_tiny_shakespeare": 1413, "seq2seq_reverse": 909}
"""Operators per step, five per cent above their counts; lower a limit when its step gets shorter."""


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("name", LIMITS)
def test_a_step_calls_no_more_operators_than_before(name: str) -> None:
    assert launches.count_step(load_config(name, *SMALL))["operators"] <= LIMITS[name]


def test_an_operator_within_an_operator_is_not_counted() -> None:
    weight = torch.ones(3, 3, requires_grad=True)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True
    ) as profiled:
        (weight @ weight).sum().backward()
    called = [event.name for event in profiled.events() if launches._is_call(event)]
    assert called[:3] == ["aten::matmul", "aten::sum", "aten::ones_like"]
    assert called.count("aten::mm") == 2  # both gradients of the product; the first mm is a part of matmul


def test_products_are_matrix_products_convolutions_and_attention() -> None:
    x, kernel = torch.ones(4, 8, 16, 16), torch.ones(8, 8, 3, 3, requires_grad=True)
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, acc_events=True) as profiled:
        image = torch.nn.functional.conv2d(x, kernel).relu()
        text = torch.nn.functional.scaled_dot_product_attention(image, image, image) @ image.mT
        (text + torch.ones(14)).sum().backward()
    names = {event.name for event in profiled.events() if launches.PRODUCTS.fullmatch(event.name)}
    assert {"aten::mkldnn_convolution", "aten::convolution_backward", "aten::bmm"} <= names
    assert any("scaled_dot_product" in name for name in names)
    assert not names & {"aten::relu", "aten::add", "aten::sum", "aten::mul", "aten::copy_"}
    assert 0 < launches._share(list(profiled.events()), launches.PRODUCTS) < 1


@pytest.mark.slow
def test_command(tmp_path, capsys) -> None:
    assert command.main(["launches", "--quick", "--json", str(tmp_path / "launches.json")]) == 0
    assert "mnist_mlp" in capsys.readouterr().out
