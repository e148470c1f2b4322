import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.text import perplexity as torchmetrics_perplexity

from lit_modules.functional.perplexity import perplexity, perplexity_of_windows


def normal(*shape: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tokens(*shape: int, vocabulary: int) -> Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("shape", "vocabulary"), [((1, 1), 2), ((2, 3), 7), ((4, 5), 11)])
def test_equals_torchmetrics(shape: tuple[int, int], vocabulary: int) -> None:
    logits, targets = normal(*shape, vocabulary), tokens(*shape, vocabulary=vocabulary)
    expected = torchmetrics_perplexity(logits, targets)
    torch.testing.assert_close(perplexity(logits, targets), expected, rtol=1e-10, atol=0)
    if targets.numel() > 1:
        targets[0, 0] = -100
        expected = torchmetrics_perplexity(logits, targets, ignore_index=-100)
        torch.testing.assert_close(perplexity(logits, targets), expected, rtol=1e-10, atol=0)
        swapped = targets.masked_fill(targets == -100, 0)
        expected = torchmetrics_perplexity(logits, swapped, ignore_index=0)
        torch.testing.assert_close(perplexity(logits, swapped, ignore_index=0), expected, rtol=1e-10, atol=0)


def test_of_a_uniform_model_is_the_size_of_the_vocabulary() -> None:
    assert perplexity(
        torch.zeros(3, 50, dtype=torch.float64), tokens(3, vocabulary=50)
    ).item() == pytest.approx(50)
    assert perplexity(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)).item() == 1


def test_of_certainty_and_of_hopelessness() -> None:
    logits = torch.tensor([[1e4, -1e4]])
    assert perplexity(logits, torch.tensor([0])).item() == 1
    assert perplexity(logits, torch.tensor([1])).item() == math.inf


def test_half_precision_is_computed_in_fp32() -> None:
    logits, targets = normal(2, 3, 7).bfloat16(), tokens(2, 3, vocabulary=7)
    expected = F.cross_entropy(logits.double().flatten(0, 1), targets.flatten()).exp()
    assert perplexity(logits, targets).dtype == torch.float32
    assert perplexity(logits, targets).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("targets", [torch.full((2, 3), -100), torch.empty(2, 0, dtype=torch.long)])
def test_refuses_a_text_without_tokens(targets: Tensor) -> None:
    with pytest.raises(ValueError, match=f"all {targets.numel()} targets are ignored"):
        perplexity(torch.zeros(*targets.shape, 5), targets)


@pytest.mark.parametrize("cuts", [[20], [1, 19], [7, 13], [5, 5, 5, 5], [0, 20], [1, 2, 3, 14]])
def test_windows_amount_to_the_whole_text(cuts: list[int]) -> None:
    logits, targets = normal(20, 7), tokens(20, vocabulary=7)
    windows = zip(logits.split(cuts), targets.split(cuts), strict=True)
    losses = torch.stack([F.cross_entropy(x, t) for x, t in windows])  # NaN for a window of none
    got = perplexity_of_windows(losses, torch.tensor(cuts))
    torch.testing.assert_close(got, perplexity(logits, targets), rtol=1e-10, atol=0)


def test_windows_of_half_precision() -> None:
    got = perplexity_of_windows(torch.tensor([1.0, 2.0], dtype=torch.bfloat16), torch.tensor([3, 1]))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(math.exp(1.25), rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "counts", "message"),
    [
        ([1.0, 2.0], [0, 0], r"nor all 0; got \[0, 0\]"),
        ([], [], r"nor all 0; got \[\]"),
        ([1.0, 2.0], [3, -1], r"must not be negative.*\[3, -1\]"),
        ([1.0, 2.0], [3], r"\(2,\) and token_counts \(1,\)"),
    ],
)
def test_windows_refuse_mismatched_arguments(losses: list[float], counts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perplexity_of_windows(torch.tensor(losses), torch.tensor(counts))
