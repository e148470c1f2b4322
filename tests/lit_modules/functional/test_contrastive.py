import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.contrastive import info_nce, nt_xent

Check = Callable[..., None]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(query: Tensor, candidates: list[Tensor], positive: int, temperature: float) -> Tensor:
    """Compute the loss of one query, candidate by candidate."""
    scores = torch.stack([F.cosine_similarity(query, c, dim=0) / temperature for c in candidates])
    return torch.logsumexp(scores, 0) - scores[positive]


def plain_in_batch(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    return torch.stack([plain(q[i], list(k), i, temperature) for i in range(len(q))]).mean()


def plain_explicit(q: Tensor, k: Tensor, n: Tensor, temperature: float) -> Tensor:
    rows = []
    for i in range(len(q)):
        own = n[i] if n.dim() == 3 else n
        rows.append(plain(q[i], [k[i], *own], 0, temperature))
    return torch.stack(rows).mean()


def plain_nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    rows = []
    for left, right in ((a, b), (b, a)):
        for i in range(len(a)):
            others = [left[j] for j in range(len(a)) if j != i]
            rows.append(
                plain(
                    left[i], [right[i], *(right[j] for j in range(len(a)) if j != i), *others], 0, temperature
                )
            )
    return torch.stack(rows).mean()


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_in_batch_equals_one_query_at_a_time(
    batch: int, temperature: float, assert_equal_in_fp64: Check
) -> None:
    q, k = normal(batch, 3), normal(batch, 3, seed=1)
    assert_equal_in_fp64(
        lambda q, k: info_nce(q, k, temperature=temperature),
        lambda q, k: plain_in_batch(q, k, temperature),
        q,
        k,
    )
    assert_equal_in_fp64(
        lambda q, k: info_nce(q, k, temperature=temperature, symmetric=True),
        lambda q, k: (plain_in_batch(q, k, temperature) + plain_in_batch(k, q, temperature)) / 2,
        q,
        k,
    )


@pytest.mark.parametrize("shape", [(4, 3), (5, 4, 3), (1, 3), (5, 1, 3), (0, 3)])
def test_explicit_negatives_equal_one_query_at_a_time(
    shape: tuple[int, ...], assert_equal_in_fp64: Check
) -> None:
    assert_equal_in_fp64(
        lambda q, k, n: info_nce(q, k, n, temperature=0.2),
        lambda q, k, n: plain_explicit(q, k, n, 0.2) + 0 * n.sum(),
        normal(5, 3),
        normal(5, 3, seed=1),
        normal(*shape, seed=2),
    )


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_nt_xent_equals_one_view_at_a_time(batch: int, assert_equal_in_fp64: Check) -> None:
    assert_equal_in_fp64(
        lambda a, b: nt_xent(a, b, temperature=0.3),
        lambda a, b: plain_nt_xent(a, b, 0.3),
        normal(batch, 4),
        normal(batch, 4, seed=1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_as_accurate_as_pytorchs_composition(dtype: torch.dtype, assert_as_accurate: Check) -> None:
    def composed(q: Tensor, k: Tensor) -> Tensor:
        similarities = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T
        return F.cross_entropy(similarities / 0.1, torch.arange(len(q)))

    assert_as_accurate(
        info_nce,
        composed,
        lambda seed: [normal(16, 8, seed=seed), normal(16, 8, seed=seed + 50)],
        dtype,
        draws=16,
    )


def test_gradients() -> None:
    q, k, n = (x.requires_grad_() for x in (normal(3, 4), normal(3, 4, seed=1), normal(3, 2, 4, seed=2)))
    assert torch.autograd.gradcheck(info_nce, (q, k, n))
    assert torch.autograd.gradcheck(lambda q, k: info_nce(q, k, symmetric=True), (q, k))
    assert torch.autograd.gradcheck(nt_xent, (q, k))


def test_length_does_not_matter_and_symmetry_holds() -> None:
    q, k = normal(4, 3), normal(4, 3, seed=1)
    for scale in (1e-4, 1e4):
        torch.testing.assert_close(info_nce(scale * q, k), info_nce(q, k), rtol=1e-10, atol=0)
        torch.testing.assert_close(nt_xent(scale * q, scale * k), nt_xent(q, k), rtol=1e-10, atol=0)
    torch.testing.assert_close(info_nce(q, k, symmetric=True), info_nce(k, q, symmetric=True))
    torch.testing.assert_close(nt_xent(q, k), nt_xent(k, q))


def test_a_zero_vector_has_no_direction_but_finite_gradients() -> None:
    q = torch.zeros(3, 4, requires_grad=True)
    loss = info_nce(q, normal(3, 4).float())
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    assert q.grad is not None
    assert bool(q.grad.isfinite().all())


def test_small_batches_strides_and_types() -> None:
    q, k = normal(4, 3), normal(4, 3, seed=1)
    assert info_nce(torch.empty(0, 3), torch.empty(0, 3)).item() == 0
    assert nt_xent(torch.empty(0, 3), torch.empty(0, 3)).item() == 0
    assert info_nce(q[:1], k[:1]).item() == 0
    spread_q, spread_k = (x.T.contiguous().T for x in (q, k))
    torch.testing.assert_close(info_nce(spread_q, spread_k), info_nce(q, k))
    assert info_nce(q.bfloat16(), k.bfloat16()).dtype == torch.bfloat16
    assert nt_xent(q.float(), k.float()).dtype == torch.float32


def test_refuses_mismatched_arguments() -> None:
    q = torch.ones(4, 3)
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(2, 3\)"):
        info_nce(q, q[:2])
    with pytest.raises(ValueError, match=r"\(4,\) and \(4,\)"):
        nt_xent(q[:, 0], q[:, 0])
    for shape in ((4,), (5, 2), (3, 2, 3), (1, 1, 1, 3)):
        with pytest.raises(ValueError, match=r"negatives must be \(K, 3\) or \(4, K, 3\)"):
            info_nce(q, q, torch.ones(shape))
    with pytest.raises(ValueError, match="pass negatives=None"):
        info_nce(q, q, q, symmetric=True)
    for loss in (info_nce, nt_xent):
        with pytest.raises(ValueError, match="positive; got 0"):
            loss(q, q, temperature=0)
