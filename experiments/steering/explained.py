"""Shares of the variance of steering vectors that predictions explain.

Shape letters: M prompts, W width.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Explained:
    """Shares of the variance of vectors that a prediction explains.

    Attributes:
        r2: 1 − Σ‖z − ẑ‖² / Σ‖z − z̄‖², with z̄ the mean of the vectors. The mean explains 0.
        beyond_answer: 1 − Σ‖z − ẑ‖² / Σ‖z − m‖², with m the mean training vector of the prompt's answer. It
            is positive only if the prediction knows more about a vector than the right answer.
    """

    r2: float
    beyond_answer: float


def explained(vectors: Tensor, predicted: Tensor, answer_means: Tensor) -> Explained:
    """Compare predictions with vectors and with the mean vectors of the answers, (M, W) each."""
    vectors, predicted, answer_means = (tensor.double() for tensor in (vectors, predicted, answer_means))
    error = (vectors - predicted).square().sum()
    around_mean = (vectors - vectors.mean(0)).square().sum()
    around_answers = (vectors - answer_means).square().sum()
    return Explained(float(1 - error / around_mean), float(1 - error / around_answers))
