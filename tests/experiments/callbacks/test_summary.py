import io

import lightning as L
import pytest
import torch
from rich.console import Console
from torch import nn

from experiments.callbacks.summary import (
    Summary,
    example_input,
    forward_flops,
    inspection,
    parameter_count,
    parts,
    si,
    summary_table,
)

# Lightning 2.6 asks PyTorch's pytree in a way that PyTorch 2.15 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")


class Info:
    input_shape = (1, 8, 8)


class Batches:
    """A loader, which a list is not: Lightning takes that for several."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.info = Info()
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(256, 10),
        )

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, batch_idx):
        return self(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(*callbacks, epochs=1):
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def printed(model, **console):
    file = io.StringIO()
    trainer(Summary(Console(file=file, **console))).fit(model, Batches([torch.ones(2, 1, 8, 8)]))
    return file.getvalue()


def test_parameters_are_counted_once_and_by_trainability():
    layer = nn.Linear(5, 7)
    tied = nn.ModuleList([layer, layer, nn.Linear(7, 2)])
    assert parameter_count(tied) == (5 * 7 + 7) + (7 * 2 + 2)
    layer.requires_grad_(False)
    assert parameter_count(tied, trainable_only=True) == 7 * 2 + 2


def test_flops_of_a_matrix_product_and_a_convolution_are_those_of_the_closed_form():
    assert forward_flops(nn.Linear(5, 7), torch.zeros(3, 5)) == 2 * 3 * 5 * 7
    convolution = nn.Conv2d(2, 4, 3, stride=2, groups=2)
    height = width = (9 - 3) // 2 + 1
    # Each output pixel of each output channel sees the 3 × 3 pixels of its group's one input channel.
    assert forward_flops(convolution, torch.zeros(1, 2, 9, 9)) == 2 * 4 * height * width * 9


@pytest.mark.parametrize(("stack", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_flops_of_recurrent_layers_are_counted(stack, gates):
    rows, steps, inputs, hidden = 2, 5, 6, 7
    layer = stack(inputs, hidden, num_layers=2, batch_first=True)
    products = inputs * hidden + 3 * hidden * hidden
    assert forward_flops(layer, torch.zeros(rows, steps, inputs)) == 2 * rows * steps * gates * products


def test_flops_of_fused_attention_are_counted():
    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v)

    heads, queries, keys, width = 2, 5, 7, 4
    q, k = torch.randn(1, heads, queries, width), torch.randn(1, heads, keys, width)
    assert forward_flops(Attention(), (q, k, k)) == 2 * 2 * heads * queries * keys * width


def test_looking_leaves_no_trace():
    model = Model()
    model.network[1].eval()  # kept so on purpose
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    summary_table(model)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_inspection_restores_modes_after_an_error():
    model = Model()
    with inspection(model):
        assert not any(m.training for m in model.modules())
        assert not model(torch.zeros(1, 1, 8, 8)).requires_grad
    with pytest.raises(RuntimeError), inspection(model):
        model(torch.zeros(1, 2, 8, 8))
    assert all(m.training for m in model.modules())


def test_a_compiled_network_is_not_compiled_for_the_summary():
    def refuse(graph, inputs):
        raise AssertionError("compiled")

    model = Model()
    model.network.compile(backend=refuse)
    summary_table(model)


def test_example_input_follows_the_weights_number_format_and_an_explicit_one_wins():
    model = Model().to(torch.bfloat16)
    sample = example_input(model)
    assert (sample.shape, sample.dtype) == ((1, 1, 8, 8), torch.bfloat16)
    model.example_input_array = torch.ones(1, 3)
    assert torch.equal(example_input(model), torch.ones(1, 3))
    assert example_input(L.LightningModule()) is None


def test_a_wrapper_is_looked_into():
    names = [name for name, _ in parts(Model())]
    assert names == ["network.0", "network.1", "network.5"]
    assert [name for name, _ in parts(nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}))] == [
        "a",
        "b",
    ]


def test_the_largest_part_is_opened_up_unless_that_makes_too_many_rows():
    def model(blocks):
        body = nn.Sequential(*[nn.Linear(9, 9) for _ in range(blocks)])
        return nn.ModuleDict({"stem": nn.Linear(2, 2), "body": body, "act": nn.ReLU()})

    assert [name for name, _ in parts(model(3))] == ["stem", "body.0", "body.1", "body.2"]
    assert [name for name, _ in parts(model(30))] == ["stem", "body"]
    assert parts(nn.ReLU()) == []


def test_table_without_terminal_is_plain_text_with_parts_and_totals():
    model = Model()
    model.network[0].requires_grad_(False)
    text = printed(model)
    assert "\x1b" not in text
    assert text.isascii() or "×" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.count("|") > 2}
    assert "Conv2d" in rows["network.0"]
    assert "4 × 8 × 8" in rows["network.0"]
    assert f"{4 * 9 + 4}" in rows["network.0"]
    assert si(2 * 4 * 64 * 9) in rows["network.0"]
    total = 4 * 9 + 4 + 8 + 2570
    assert f"{total:,}" in rows["Model"]
    assert f"{total - 40:,} trainable" in rows["Model"]
    assert si(2 * 4 * 64 * 9 + 2 * 256 * 10) in rows["Model"]


def test_table_in_a_terminal_is_styled():
    assert "\x1b[1m" in printed(Model(), force_terminal=True, width=100)


def test_numbers_are_whole_in_a_narrow_terminal():
    model = Model()
    model.body = nn.Linear(30_000, 4_000, device="meta")
    file = io.StringIO()
    Console(file=file, width=60, force_terminal=True, color_system=None).print(summary_table(model))
    lines = file.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 60 for line in lines)
    assert sum("120,004,000" in line for line in lines) == 1
    assert "…" not in file.getvalue()


def test_a_model_of_unknown_input_has_parameters_only():
    model = Model()
    model.info = None
    text = printed(model)
    assert "2,570" in text
    assert si(2 * 256 * 10) not in text


def test_only_a_fit_is_summarised_and_only_on_rank_zero(monkeypatch):
    file = io.StringIO()
    summary = Summary(Console(file=file))
    run = trainer(summary)
    summary.setup(run, Model(), "test")
    monkeypatch.setattr(type(run), "is_global_zero", False)
    summary.setup(run, Model(), "fit")
    assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (12_345_678, "12.3 M"),
        (999_999, "1 M"),
        (3e18, "3e+03 P"),
        (None, ""),
    ],
)
def test_numbers_have_three_digits_and_a_prefix(number, text):
    assert si(number) == text
