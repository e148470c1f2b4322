import copy
import math

import pytest
import torch
from torch import Tensor, nn

from lit_modules.layers import recurrent, recurrent_cells

KINDS = ["RNN", "LSTM", "GRU"]


def pair(kind: str, *, implementation: str = "by_hand", dtype: torch.dtype = torch.float64, **options):
    """Our stack and PyTorch's with the same weights, of widths 3 and 5."""
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(3, 5, batch_first=True, **options).to(dtype)
    ours = getattr(recurrent, kind)(input_size=3, hidden_size=5, implementation=implementation, **options).to(
        dtype
    )
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def start_state(kind: str, rows: int, batch: int, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(rows, batch, 5, generator=generator).to(dtype).requires_grad_() for _ in range(2)]
    return tuple(parts) if kind == "LSTM" else parts[0]


def tensors(result) -> list[Tensor]:
    """(outputs, state) as a flat list."""
    outputs, state = result
    return [outputs, *(state if isinstance(state, tuple) else (state,))]


def gradients(results: list[Tensor], wanted: list[Tensor]) -> list[Tensor]:
    """Of a scalar in which every result has its own weight."""
    weights = [
        torch.linspace(-1, 2, max(result.numel(), 1))[: result.numel()].to(result) for result in results
    ]
    loss = sum((result.flatten() * weight).sum() for result, weight in zip(results, weights, strict=True))
    return list(torch.autograd.grad(loss, wanted))


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("num_layers", "bidirectional", "bias"), [(1, False, True), (2, True, True), (2, False, False)]
)
@pytest.mark.parametrize(("batch", "steps"), [(4, 7), (1, 1), (1, 6), (3, 1)])
@pytest.mark.parametrize("with_state", [False, True])
def test_values_and_gradients_are_pytorchs(
    kind, num_layers, bidirectional, bias, batch, steps, with_state
) -> None:
    ours, theirs = pair(kind, num_layers=num_layers, bidirectional=bidirectional, bias=bias)
    inputs = torch.randn(batch, steps, 3, dtype=torch.float64, requires_grad=True)
    state = start_state(kind, num_layers * (1 + bidirectional), batch) if with_state else None
    our_results, their_results = tensors(ours(inputs, state)), tensors(theirs(inputs, state))
    assert_same(our_results, their_results)
    extra = [] if state is None else list(state) if isinstance(state, tuple) else [state]
    assert_same(
        gradients(our_results, [inputs, *extra, *ours.parameters()]),
        gradients(their_results, [inputs, *extra, *theirs.parameters()]),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_lengths_are_pytorchs_packed_sequences(kind, implementation, bidirectional, with_state) -> None:
    ours, theirs = pair(kind, implementation=implementation, num_layers=2, bidirectional=bidirectional)
    inputs = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 5, 1, 5])  # no row is as long as the batch
    state = start_state(kind, 2 * (1 + bidirectional), 4) if with_state else None
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, last = theirs(packed, state)
    outputs = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=6)[0]
    our_results, their_results = tensors(ours(inputs, state, lengths=lengths)), tensors((outputs, last))
    assert_same(our_results, their_results)
    assert_same(
        gradients(our_results, [inputs, *ours.parameters()]),
        gradients(their_results, [inputs, *theirs.parameters()]),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
def test_padding_is_never_read(kind, implementation) -> None:
    ours, _ = pair(kind, implementation=implementation, bidirectional=True)
    inputs = torch.randn(2, 5, 3, dtype=torch.float64)
    lengths = torch.tensor([2, 4])
    spoiled = inputs.clone()
    spoiled[0, 2:], spoiled[1, 4:] = 1e4, -1e4
    first, second = tensors(ours(inputs, lengths=lengths)), tensors(ours(spoiled, lengths=lengths))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounds_no_worse_than_pytorch(kind, dtype) -> None:
    """Compare errors against fp64 with PyTorch's.

    A parameter's gradient is a sum over rows and steps, and the processor's kernel chooses its order. There
    √n · u for n terms is always allowed (Higham & Mary 2019; u = 2⁻²⁴, because the sums are fp32).
    """
    ours, theirs = pair(kind, dtype=dtype, num_layers=2)
    exact = copy.deepcopy(theirs).double()
    inputs = torch.randn(8, 24, 3).to(dtype)

    def run(stack: nn.Module, inputs: Tensor) -> list[Tensor]:
        inputs = inputs.detach().requires_grad_()
        outputs = stack(inputs)[0]
        found = [
            outputs,
            *torch.autograd.grad(outputs.double().square().sum(), [inputs, *stack.parameters()]),
        ]
        return [tensor.detach().double() for tensor in found]

    references = run(exact, inputs.double())
    any_order = math.sqrt(8 * 24) * 2**-24
    for index, (mine, other, reference) in enumerate(
        zip(run(ours, inputs), run(theirs, inputs), references, strict=True)
    ):
        allowed = 1.5 * (other - reference).norm()
        if index >= 2:  # the gradients of the parameters
            allowed = max(allowed, any_order * reference.norm())
        assert (mine - reference).norm() <= allowed


@pytest.mark.parametrize("kind", KINDS)
def test_fused_is_pytorchs_kernel(kind) -> None:
    ours, theirs = pair(kind, implementation="fused", num_layers=2, bidirectional=True)
    inputs = torch.randn(2, 4, 3, dtype=torch.float64)
    for mine, other in zip(tensors(ours(inputs)), tensors(theirs(inputs)), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", ["by_hand", "fused"])
def test_an_empty_batch_stays_empty(kind, implementation) -> None:
    ours, _ = pair(kind, implementation=implementation, num_layers=2)
    outputs, *state = tensors(ours(torch.zeros(0, 4, 3, dtype=torch.float64)))
    assert outputs.shape == (0, 4, 5)
    assert all(part.shape == (2, 0, 5) for part in state)


@pytest.mark.parametrize("kind", KINDS)
def test_strides_of_the_inputs_do_not_matter(kind) -> None:
    ours, theirs = pair(kind)
    inputs = torch.randn(3, 7, 8, dtype=torch.float64).permute(2, 1, 0)[::2]  # (4, 7, 3), far from contiguous
    assert_same(tensors(ours(inputs)), tensors(theirs(inputs.contiguous())))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_lies_between_layers_in_training_only(kind) -> None:
    ours, theirs = pair(kind, num_layers=3, dropout=0.4)
    inputs = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.manual_seed(7)
    mine = tensors(ours(inputs))
    torch.manual_seed(7)  # both draw their masks in the same order and shape
    assert_same(mine, tensors(theirs(inputs)))
    assert_same(tensors(ours.eval()(inputs)), tensors(theirs.eval()(inputs)))
    assert not torch.allclose(mine[0], ours(inputs)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_in_two_halves_is_the_whole(kind) -> None:
    ours, _ = pair(kind, num_layers=2)
    inputs = torch.randn(2, 9, 3, dtype=torch.float64)
    first, state = ours(inputs[:, :4])
    second, last = ours(inputs[:, 4:], state)
    assert_same(tensors((torch.cat([first, second], dim=1), last)), tensors(ours(inputs)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_over_the_cell_is_the_layer(kind) -> None:
    ours, _ = pair(kind)
    cell = getattr(recurrent_cells, f"{kind}Cell")(
        input_size=3, hidden_size=5, implementation="by_hand"
    ).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in ours.state_dict().items()})
    inputs = torch.randn(2, 6, 3, dtype=torch.float64)
    state, outputs = None, []
    for step in range(6):
        state = cell(inputs[:, step], state)
        outputs.append(state[0] if kind == "LSTM" else state)
    assert_same([torch.stack(outputs, dim=1)], [ours(inputs)[0]])


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused(kind) -> None:
    ours, _ = pair(kind)
    sequence = torch.zeros(2, 4, 3, dtype=torch.float64)
    for wrong in (sequence[0], sequence[..., :2], sequence[:, :0]):
        with pytest.raises(ValueError, match=r"expected \(batch, at least 1 step, 3\)"):
            ours(wrong)
    with pytest.raises(ValueError, match=r"lengths have shape \(3,\), expected \(2,\)"):
        ours(sequence, lengths=torch.tensor([1, 2, 3]))
    for lengths in ([0, 4], [4, 5]):
        with pytest.raises(ValueError, match=r"expected values from 1 to 4"):
            ours(sequence, lengths=torch.tensor(lengths))
    with pytest.raises(ValueError, match="implementation is 'cudnn'"):
        pair(kind, implementation="cudnn")
