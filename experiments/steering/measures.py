"""Small measures of answers that several stages of the chain share."""

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """Compute the mean of at least one value."""
    return sum(values) / len(values)


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Subtract the second values from the first, prompt by prompt."""
    return [a - b for a, b in zip(first, second, strict=True)]


def log_perplexity_ratios(answers: Sequence[float], plain: Sequence[float]) -> dict[int, float]:
    """Compute log(perplexity of an answer / perplexity of the unsteered answer) for each prompt.

    Args:
        answers: Mean log-probability per token of each answer; NaN for an empty answer.
        plain: The same for the unsteered answers.

    Returns:
        The values by index of the prompt. Prompts with an empty answer are left out, so that an empty answer
        does not lower the ratio.
    """
    ratios = differences(plain, answers)
    return {index: ratio for index, ratio in enumerate(ratios) if not math.isnan(ratio)}


def perplexity_ratio(answers: Sequence[float], plain: Sequence[float]) -> float:
    """Compute the ratio of geometric mean perplexities; see `log_perplexity_ratios`.

    Returns:
        NaN if no prompt has both answers.
    """
    ratios = list(log_perplexity_ratios(answers, plain).values())
    return math.exp(mean(ratios)) if ratios else math.nan


def repetition(tokens: Sequence[int], size: int = 3) -> float:
    """Compute the share of n-grams that occurred before in the text; 0 if the text has no n-gram."""
    runs = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
