"""Norms.

Batch norm, layer norm and RMS norm.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from experiments.demo.outcome import Outcome, Result, numbers
from lit_modules.functional import normalization
from lit_modules.layers.norm import BatchNorm, LayerNorm, RMSNorm


def batch_norm() -> Outcome:
    """Normalize each feature over the batch.

    Formula: y = (x − μ_B) / √(σ²_B + ε); running ← 0.9 running + 0.1 batch, with the unbiased variance
    Source: Ioffe & Szegedy 2015, "Batch normalization", algorithms 1 and 2
    Mistake: A biased running variance (divided by n, not n − 1); statistics of the batch at evaluation.
    Code: lit_modules/layers/norm.py
    """
    x = numbers((1, 10), (2, 20), (3, 60), (6, 30))
    ours, theirs = BatchNorm(2, implementation="by_hand").double(), nn.BatchNorm1d(2).double()
    y, expected = ours(x), theirs(x)
    unbiased = (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt()
    running, biased = theirs.running_var, 0.9 + 0.1 * x.var(0, correction=0)
    assert running is not None
    return Outcome(
        inputs={"x": x},
        results=[
            Result("y in training", y, "nn.BatchNorm1d", expected, wrong=("unbiased in y", unbiased)),
            Result("running variance", ours.running_var, "nn.BatchNorm1d", running, wrong=("biased", biased)),
            Result(
                "y in evaluation",
                ours.eval()(x),
                "nn.BatchNorm1d",
                theirs.eval()(x),
                wrong=("of the batch", expected),
            ),
        ],
    )


def layer_norm() -> Outcome:
    """Normalize each sample over its features.

    Formula: y = (x − μ) / √(σ² + ε) · w + b, with the biased variance
    Source: Ba, Kiros & Hinton 2016, "Layer normalization", eq. 4
    Mistake: `x.std()`, which is unbiased; ε outside the root.
    Code: lit_modules/layers/norm.py
    """
    x, small = numbers((1, 2, 3, 6), (10, 20, 30, 60)), numbers(0.001, 0.002, 0.003, 0.006)
    centred, norm = x - x.mean(-1, keepdim=True), LayerNorm(4, implementation="by_hand").double()
    outside = (small - small.mean()) / (small.std(correction=0) + 1e-5)
    inputs, weights = numbers(1, 2, 3, 6).requires_grad_(), numbers(1, 2, 0, 0)
    (slope,) = torch.autograd.grad(normalization.layer_norm(inputs, (4,)) @ weights, inputs)
    (expected,) = torch.autograd.grad(F.layer_norm(inputs, (4,)) @ weights, inputs)
    return Outcome(
        inputs={"x": x, "small x": small},
        results=[
            Result(
                "layer_norm(x)",
                norm(x),
                "F.layer_norm",
                F.layer_norm(x, (4,)),
                wrong=("unbiased std", centred / (x.std(-1, keepdim=True) + 1e-5)),
            ),
            Result(
                "layer_norm(small x)",
                norm(small),
                "F.layer_norm",
                F.layer_norm(small, (4,)),
                wrong=("ε outside", outside),
            ),
            Result("gradient by hand, of y_1 + 2 y_2", slope, "autograd", expected),
        ],
    )


def rms_norm() -> Outcome:
    """Scale each sample to a mean square of one.

    Formula: y = x / √(mean(x²) + ε) · w [+ b]
    Source: Zhang & Sennrich 2019, "Root mean square layer normalization", eq. 4 and section 3.3
    Mistake: Subtracting the mean first; squares in half precision, which overflow above 255.
    Code: lit_modules/layers/norm.py
    """
    x, half = numbers(3, -1, 2, 2), torch.tensor([300, -100, 200, 200], dtype=torch.float16)
    partial, shifted = RMSNorm(4, partial=0.5).double(), RMSNorm(4, bias=True).double()
    assert shifted.bias is not None
    nn.init.constant_(shifted.bias, 0.5)
    expected, eps = F.rms_norm(x, (4,), eps=1e-6), 1e-6
    centred, fused = F.layer_norm(x, (4,)), F.rms_norm(half.double(), (4,), eps=eps).half()
    overflow = half * (half.square().mean() + eps).rsqrt()
    norm = RMSNorm(4, implementation="by_hand").double()
    return Outcome(
        inputs={"x": x, "x in fp16": half},
        results=[
            Result("rms_norm(x)", norm(x), "F.rms_norm", expected, wrong=("mean subtracted", centred)),
            Result(
                "partial: the mean square of the first half",
                partial(x),
                "formula in PyTorch",
                x * (x[:2].square().mean() + eps).rsqrt(),
            ),
            Result("with a bias of 0.5", shifted(x), "F.rms_norm", expected + 0.5),
            Result("in fp16", norm.float()(half), "F.rms_norm in fp64", fused, wrong=("in fp16", overflow)),
        ],
    )
