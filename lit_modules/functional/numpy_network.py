"""The two-layer network in NumPy: its forward pass, its loss, and its backward pass by the chain rule.

    a = x W₁ᵀ + b₁,  h = max(a, 0),  z = h W₂ᵀ + b₂,  p = softmax(z),  L = mean of −log p_t

With y the one-hot targets, ∂L/∂z = (p − y) / N. The chain rule goes back from there, layer by layer:

    ∂L/∂W₂ = (∂L/∂z)ᵀ h      ∂L/∂b₂ = Σ_n ∂L/∂z      ∂L/∂h = ∂L/∂z W₂      ∂L/∂a = ∂L/∂h where a > 0, else 0
    ∂L/∂W₁ = (∂L/∂a)ᵀ x      ∂L/∂b₁ = Σ_n ∂L/∂a

Source: Rumelhart, Hinton & Williams 1986, "Learning representations by back-propagating errors".

Shape letters: N rows, D features, H hidden units, K classes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Weights(NamedTuple):
    """The weights of the network, or the gradient of the loss with respect to each of them."""

    w1: Array  # (H, D)
    b1: Array  # (H,)
    w2: Array  # (K, H)
    b2: Array  # (K,)


def forward(x: Array, weights: Weights) -> tuple[Array, Array]:
    """Compute the hidden activations (N, H) and the logits (N, K) of rows (N, D)."""
    w1, b1, w2, b2 = weights
    h = np.maximum(x @ w1.T + b1, 0)
    return h, h @ w2.T + b2


def loss_and_gradient(x: Array, targets: Array, weights: Weights) -> tuple[Array, Array, Weights]:
    """Compute the mean cross-entropy, and its gradient with respect to all weights.

    Args:
        x: Rows (N, D).
        targets: Class indices (N,).
        weights: The weights of the network.

    Returns:
        The loss (), the logits (N, K), and the gradient.
    """
    h, z = forward(x, weights)
    rows = np.arange(len(x))
    shifted = z - z.max(axis=1, keepdims=True)  # exp can't overflow
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # (N, K)
    loss = -log_p[rows, targets].mean()

    dz = np.exp(log_p)
    dz[rows, targets] -= 1
    dz /= len(x)  # (N, K)
    da = (dz @ weights.w2) * (h > 0)  # (N, H)
    return loss, z, Weights(w1=da.T @ x, b1=da.sum(axis=0), w2=dz.T @ h, b2=dz.sum(axis=0))
