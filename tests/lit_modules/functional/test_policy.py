import doctest
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

from lit_modules.functional import blocks, policy
from lit_modules.functional.policy import (
    clip_fraction,
    group_advantages,
    grpo_loss,
    k3_divergence,
    token_entropy,
    token_log_probs,
)

Check = Callable[..., None]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens_of(*shape: int, vocabulary: int, seed: int = 0) -> Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def their_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)


def their_entropy(logits: Tensor) -> Tensor:
    return Categorical(logits=logits, validate_args=False).entropy()


class LargestAllocation(TorchDispatchMode):
    """Records the size of the largest tensor that an operation creates."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, x.numel())
        return result


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("vocabulary", [1, 2, 11])
def test_log_probs_and_entropy_equal_pytorch(
    shape: tuple[int, ...], vocabulary: int, assert_equal_in_fp64: Check
) -> None:
    logits, tokens = normal(*shape, vocabulary, scale=3), tokens_of(*shape, vocabulary=vocabulary)
    assert_equal_in_fp64(token_log_probs, their_log_probs, logits, tokens)
    assert_equal_in_fp64(token_entropy, their_entropy, logits)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_log_probs_and_entropy_of_small_large_and_spread_logits(
    scale: float, assert_equal_in_fp64: Check
) -> None:
    logits, tokens = normal(5, 4, scale=scale), tokens_of(4, vocabulary=5)
    assert_equal_in_fp64(
        lambda x: token_log_probs(x.T, tokens), lambda x: their_log_probs(x.T, tokens), logits
    )
    assert_equal_in_fp64(lambda x: token_entropy(x.T), lambda x: their_entropy(x.T), logits)


def test_log_probs_and_entropy_are_the_same_in_blocks(
    monkeypatch: pytest.MonkeyPatch, assert_equal_in_fp64: Check
) -> None:
    monkeypatch.setattr(blocks, "_PER_CPU_THREAD", 8)
    tokens = tokens_of(3, 9, vocabulary=5)
    assert_equal_in_fp64(token_log_probs, their_log_probs, normal(3, 9, 5), tokens)
    assert_equal_in_fp64(token_entropy, their_entropy, normal(3, 9, 5))


@pytest.mark.parametrize(
    "function", [token_entropy, lambda x: token_log_probs(x, torch.zeros(60, dtype=torch.long))]
)
def test_no_second_tensor_of_the_logits_size_is_made_forward(
    function: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_PER_CPU_THREAD", 64)
    logits = normal(60, 50).requires_grad_()
    kept = []

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() != logits.untyped_storage().data_ptr():
            kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), LargestAllocation() as largest:
        output = function(logits)
    assert largest.elements <= max(64 * torch.get_num_threads(), 60)
    assert all(size <= 60 for size in kept)
    with LargestAllocation() as largest:
        output.sum().backward()
    assert largest.elements == logits.numel()  # the gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probs_and_entropy_are_as_accurate_as_pytorch(
    dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    tokens = tokens_of(32, vocabulary=17)
    # in bf16 ours are fp32 and PyTorch's are not; held to the same type, they have to be as good
    assert_as_accurate(
        lambda x: token_log_probs(x, tokens).to(x.dtype),
        lambda x: their_log_probs(x, tokens),
        lambda seed: [normal(32, 17, seed=seed, scale=3)],
        dtype,
    )
    assert_as_accurate(
        lambda x: token_entropy(x).to(x.dtype),
        their_entropy,
        lambda seed: [normal(32, 17, seed=seed, scale=3)],
        dtype,
    )
    assert token_log_probs(normal(32, 17).to(dtype), tokens).dtype == torch.float32
    assert token_entropy(normal(32, 17).to(dtype)).dtype == torch.float32


def test_entropy_of_uniform_certain_and_masked_tokens() -> None:
    inf = torch.inf
    logits = torch.tensor([[2.0, 2.0, 2.0], [1e4, 0.0, -1e4], [1.0, 1.0, -inf], [-inf, -inf, -inf]])
    logits.requires_grad_()
    entropy = token_entropy(logits)
    torch.testing.assert_close(entropy, torch.tensor([math.log(3), 0, math.log(2), 0]))
    entropy.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), rtol=0, atol=1e-6)
    log_probs = token_log_probs(logits, torch.tensor([0, 0, 2, 0]))
    assert log_probs.tolist()[1:] == [0, -inf, -inf]


def test_log_probs_and_entropy_differentiate_twice_and_under_vmap() -> None:
    logits, tokens = normal(3, 4).requires_grad_(), torch.tensor([3, 0, 1])
    assert torch.autograd.gradcheck(token_entropy, logits)
    assert torch.autograd.gradgradcheck(token_entropy, logits)
    assert torch.autograd.gradgradcheck(lambda x: token_log_probs(x, tokens), logits)
    together = torch.func.vmap(torch.func.grad(token_entropy))(logits)
    one_by_one = torch.stack([torch.func.grad(token_entropy)(row) for row in logits])
    torch.testing.assert_close(together, one_by_one, rtol=1e-12, atol=1e-14)


def test_log_probs_refuse_mismatched_tokens() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\); got \(3,\)"):
        token_log_probs(torch.zeros(2, 3, 5), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\[0, 5\); got values from 5 to 5"):
        token_log_probs(torch.zeros(1, 5), torch.tensor([5]))


def test_advantages_equal_their_formulas() -> None:
    rewards = normal(3, 4, scale=2)
    mean = rewards.mean(-1, keepdim=True)
    spread = rewards.std(-1, correction=0, keepdim=True)

    def close(got: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)

    close(group_advantages(rewards), (rewards - mean) / (spread + 1e-6))
    close(group_advantages(rewards, eps=0.5), (rewards - mean) / (spread + 0.5))
    as_in_trl = (rewards - mean) / (rewards.std(-1, keepdim=True) + 1e-4)
    close(group_advantages(rewards, unbiased=True, eps=1e-4), as_in_trl)
    close(group_advantages(rewards, method="centered"), rewards - mean)
    assert torch.equal(group_advantages(rewards, method="raw"), rewards)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("method", ["normalized", "centered"])
@pytest.mark.parametrize("rewards", [[[0.1, 0.1, 0.1]], [[0.7]], [[1e4, 1e4]], [[0, 0, 0, 0]]])
def test_a_group_of_equal_rewards_has_zero_advantages(
    rewards: list[list[float]], method: Any, unbiased: bool
) -> None:
    advantages = group_advantages(torch.tensor(rewards), method=method, unbiased=unbiased)
    assert advantages.tolist() == [[0.0] * len(rewards[0])]


def test_advantages_are_constants_in_at_least_fp32_and_methods_are_checked() -> None:
    rewards = torch.tensor([1.0, 3.0], dtype=torch.bfloat16, requires_grad=True)
    advantages = group_advantages(rewards, eps=0.0)
    assert advantages.dtype == torch.float32
    assert not advantages.requires_grad
    assert advantages.tolist() == [-1.0, 1.0]
    assert group_advantages(torch.empty(0, 4)).shape == (0, 4)
    with pytest.raises(ValueError, match=r"normalized, centered, raw; got 'median'"):
        group_advantages(torch.zeros(2), method="median")  # type: ignore[arg-type]


def test_k3_and_its_gradient_equal_their_formulas() -> None:
    log_p, log_ref = normal(50).requires_grad_(), normal(50, seed=1).requires_grad_()
    value = k3_divergence(log_p, log_ref)
    ratio = (log_ref - log_p).detach().exp()
    torch.testing.assert_close(value, ratio - ratio.log() - 1, rtol=1e-10, atol=1e-14)
    assert bool((value >= 0).all())
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    torch.testing.assert_close(slope, 1 - ratio, rtol=1e-10, atol=1e-14)
    assert not torch.autograd.grad(k3_divergence(log_p, log_ref).sum(), log_ref, allow_unused=True)[0]
    assert k3_divergence(log_p, log_p.detach()).abs().max().item() == 0
    assert torch.autograd.gradcheck(lambda x: k3_divergence(x, log_ref), log_p)


def test_k3_averages_to_the_divergence() -> None:
    p, ref = Categorical(logits=normal(6)), Categorical(logits=normal(6, seed=1))
    outcomes = torch.arange(6)
    estimates = k3_divergence(p.log_prob(outcomes), ref.log_prob(outcomes))
    torch.testing.assert_close((p.probs * estimates).sum(), kl_divergence(p, ref), rtol=1e-10, atol=0)


def plain_grpo(
    log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    old: Tensor,
    reference: Tensor,
    *,
    low: float,
    high: float,
    beta: float,
    normalization: str,
    max_length: int,
    of_sequence: bool = False,
) -> Tensor:
    """Compute the objective token by token, as printed in the papers."""
    batch, length = log_probs.shape
    total = torch.zeros((), dtype=log_probs.dtype)
    tokens = sum(bool(mask[i, t]) for i in range(batch) for t in range(length))
    for i in range(batch):
        sequence = torch.zeros((), dtype=log_probs.dtype)
        count = 0
        for t in range(length):
            if not mask[i, t]:
                continue
            advantage = float(advantages[i] if advantages.dim() == 1 else advantages[i, t])
            ratio = torch.exp(log_probs[i, t] - float(old[i, t]))
            if of_sequence:  # the geometric mean of the ratios
                ratios = torch.exp(log_probs[i] - old[i])[mask[i]]
                ratio = ratios.prod() ** (1 / len(ratios))
            if advantage >= 0:
                surrogate = advantage * (ratio if ratio.item() <= 1 + high else ratio.detach() * 0 + 1 + high)
            else:
                surrogate = advantage * (ratio if ratio.item() >= 1 - low else ratio.detach() * 0 + 1 - low)
            back = torch.exp(float(reference[i, t]) - log_probs[i, t])
            sequence = sequence - surrogate + beta * (back - torch.log(back) - 1)
            count += 1
        if normalization == "sequence":
            total = total + sequence / max(count, 1) / batch
        elif normalization == "token":
            total = total + sequence / max(tokens, 1)
        elif normalization == "none":
            total = total + sequence
        else:
            total = total + sequence / (batch * max_length)
    return total


@pytest.mark.parametrize("normalization", ["sequence", "token", "constant", "none"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_grpo_equals_the_plain_loop(
    ratio: Any, per_token: bool, beta: float, normalization: Any, assert_equal_in_fp64: Check
) -> None:
    shape = (5, 6)
    mask = torch.arange(6) < torch.tensor([[6], [3], [1], [0], [4]])
    old, reference = -normal(*shape).abs(), -normal(*shape, seed=1).abs()
    advantages = normal(*shape, seed=2) if per_token else normal(5, seed=2)
    advantages[1] = 0
    assert_equal_in_fp64(
        lambda x: grpo_loss(
            x,
            advantages,
            mask,
            old_log_probs=old,
            reference_log_probs=reference,
            clip=0.2,
            clip_high=0.28,
            ratio=ratio,
            kl_weight=beta,
            normalization=normalization,
            max_length=9,
        ),
        lambda x: plain_grpo(
            x,
            advantages,
            mask,
            old,
            reference,
            low=0.2,
            high=0.28,
            beta=beta,
            normalization=normalization,
            max_length=9,
            of_sequence=ratio == "sequence",
        ),
        old + normal(*shape, seed=3, scale=0.3),
    )


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_clip_fraction_is_the_share_of_tokens_that_do_not_move_the_policy(ratio: Any) -> None:
    mask = torch.arange(6) < torch.tensor([[6], [3], [1], [0], [4]])
    old, advantages = -normal(5, 6).abs(), normal(5, seed=2)
    new = (old + 0.2 + normal(5, 6, seed=3, scale=0.3)).requires_grad_()
    clips: Any = {"old_log_probs": old, "clip": 0.01, "clip_high": 0.02, "ratio": ratio}
    loss = grpo_loss(new, advantages, mask, normalization="none", **clips)
    (slope,) = torch.autograd.grad(loss, new)
    expected = (slope[mask] == 0).double().mean().item()
    assert 0 < expected < 1
    assert clip_fraction(new, advantages, mask, **clips).item() == pytest.approx(expected)
    assert clip_fraction(new, advantages, torch.zeros_like(mask), **clips) == 0


def test_the_worked_example_of_the_docstring() -> None:
    found = doctest.DocTestFinder().find(grpo_loss, globs=vars(policy).copy())
    assert sum(len(test.examples) for test in found) == 6
    assert doctest.DocTestRunner().run(found[0]).failed == 0


def test_a_clip_beyond_one_has_no_floor() -> None:
    old, mask = torch.zeros(1, 1), torch.ones(1, 1)
    new = torch.full((1, 1), -30.0, requires_grad=True)
    loss = grpo_loss(new, torch.tensor([-1.0]), mask, old_log_probs=old, clip=1.0)
    assert loss.item() == pytest.approx(math.exp(-30), rel=1e-5)
    assert torch.autograd.grad(loss, new)[0].item() == pytest.approx(math.exp(-30), rel=1e-5)


def test_grpo_clips_symmetrically_unless_told_otherwise() -> None:
    old, mask = torch.zeros(2, 1), torch.ones(2, 1)
    new = torch.tensor([[1.5], [0.5]]).log()
    loss = grpo_loss(new, torch.tensor([1.0, -1.0]), mask, old_log_probs=old, clip=0.3)
    assert loss.item() == pytest.approx((-1.3 + 0.7) / 2)


@pytest.mark.parametrize("method", ["raw", "centered"])
def test_on_policy_it_has_the_gradient_of_reinforce(method: Any) -> None:
    """Compare with the score function of REINFORCE, without a baseline and with the group's mean."""
    logits, tokens = normal(4, 3, 5).requires_grad_(), tokens_of(4, 3, vocabulary=5)
    rewards = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    mask = torch.ones(4, 3, dtype=torch.bool)

    advantages = group_advantages(rewards, method=method)
    loss = grpo_loss(
        token_log_probs(logits, tokens), advantages, mask, normalization="constant", max_length=1
    )
    (ours,) = torch.autograd.grad(loss, logits)

    baseline = rewards.mean() if method == "centered" else torch.zeros(())
    expected = torch.zeros_like(logits)
    for i in range(4):
        for t in range(3):
            score = F.one_hot(tokens[i, t], 5) - logits[i, t].detach().softmax(-1)  # ∇ log π
            expected[i, t] = -(rewards[i] - baseline) * score / 4
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-14)
    assert loss.item() == pytest.approx(-3 * advantages.mean().item())


@pytest.mark.parametrize("clip", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("clip_high", [None, 0.0, 0.5])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_no_clip_hides_the_gradient_on_policy(
    ratio: Any, clip: float, clip_high: float | None, given: bool
) -> None:
    """With ρ = 1 for all tokens the gradient is that of −A log π, also where ρ is exactly at its limit."""
    log_probs, mask = -normal(4, 3).abs().requires_grad_(), torch.ones(4, 3)
    advantages = torch.tensor([1.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    old = log_probs.detach().clone() if given else None
    clips: Any = {"old_log_probs": old, "clip": clip, "clip_high": clip_high, "ratio": ratio}
    loss = grpo_loss(log_probs, advantages, mask, **clips)
    assert clip_fraction(log_probs, advantages, mask, **clips) == 0
    reinforce = (-advantages[:, None] * log_probs).mean()
    torch.testing.assert_close(
        torch.autograd.grad(loss, log_probs)[0], torch.autograd.grad(reinforce, log_probs)[0]
    )


def test_giving_the_current_policy_as_the_old_one_changes_nothing() -> None:
    log_probs, mask = -normal(3, 4).abs().requires_grad_(), torch.ones(3, 4)
    losses = [grpo_loss(log_probs, normal(3), mask, old_log_probs=old) for old in (None, log_probs.detach())]
    slopes = [torch.autograd.grad(loss, log_probs)[0] for loss in losses]
    assert torch.equal(*losses)
    assert torch.equal(*slopes)


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf, 1e4])
def test_masked_tokens_have_no_effect(junk: float) -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    names = ["log_probs", "old", "reference"]
    clean = {name: -normal(2, 3, seed=seed).abs() for seed, name in enumerate(names)}
    dirty = {name: x.masked_fill(~mask, junk) for name, x in clean.items()}
    advantages = normal(2, 3, seed=5)
    results = []
    for given, a in ((clean, advantages), (dirty, advantages.masked_fill(~mask, junk))):
        log_probs = given["log_probs"].requires_grad_()
        loss = grpo_loss(
            log_probs,
            a,
            mask,
            old_log_probs=given["old"],
            reference_log_probs=given["reference"],
            kl_weight=0.1,
        )
        results.append((loss, torch.autograd.grad(loss, log_probs)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert bool((results[0][1][~mask] == 0).all())


def test_ratios_beyond_all_bounds_are_clipped_or_idle() -> None:
    log_probs = torch.zeros(2, 1, requires_grad=True)
    old = torch.full((2, 1), -1e4)
    loss = grpo_loss(log_probs, torch.tensor([1.0, 0.0]), torch.ones(2, 1), old_log_probs=old)
    assert loss.item() == pytest.approx(-1.2 / 2)
    (slope,) = torch.autograd.grad(loss, log_probs)
    assert slope.tolist() == [[0], [0]]


@pytest.mark.parametrize("normalization", ["sequence", "token", "constant", "none"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0)])
def test_a_fully_masked_batch_costs_zero(shape: tuple[int, int], normalization: Any) -> None:
    log_probs = torch.zeros(shape, requires_grad=True)
    loss = grpo_loss(
        log_probs, torch.ones(shape[0]), torch.zeros(shape), normalization=normalization, max_length=4
    )
    loss.backward()
    assert loss.item() == 0
    assert log_probs.grad is not None
    assert torch.equal(log_probs.grad, torch.zeros(shape))


def test_half_precision_is_computed_in_fp32() -> None:
    log_probs = -normal(3, 4).abs().bfloat16()
    loss = grpo_loss(log_probs, normal(3).bfloat16(), torch.ones(3, 4))
    assert loss.dtype == torch.float32


def test_grpo_refuses_mismatched_arguments() -> None:
    x, a, m = torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"log_probs must be \(B, T\); got \(3,\)"):
        grpo_loss(x[0], a, m)
    with pytest.raises(ValueError, match=r"advantages must be \(2,\) or \(2, 3\); got \(3,\)"):
        grpo_loss(x, torch.zeros(3), m)
    with pytest.raises(ValueError, match=r"all be \(2, 3\); got \(2,\)"):
        grpo_loss(x, a, torch.ones(2))
    with pytest.raises(ValueError, match=r"all be \(2, 3\); got \(2, 2\)"):
        grpo_loss(x, a, m, old_log_probs=x[:, :2])
    with pytest.raises(ValueError, match=r"kl_weight is 0\.1 but reference_log_probs are missing"):
        grpo_loss(x, a, m, kl_weight=0.1)
    for bad in (None, 0):
        with pytest.raises(ValueError, match=f"max_length of at least 1; got {bad}"):
            grpo_loss(x, a, m, normalization="constant", max_length=bad)
    with pytest.raises(ValueError, match=r"sequence, token, constant, none; got 'batch'"):
        grpo_loss(x, a, m, normalization="batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ratio must be one of token, sequence; got 'word'"):
        grpo_loss(x, a, m, ratio="word")  # type: ignore[arg-type]
