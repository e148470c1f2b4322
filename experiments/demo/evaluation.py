"""Evaluation.

Ranking, perplexity and edit distance.
"""

import torch
import torch.nn.functional as F

from experiments.demo.outcome import Outcome, Result, numbers, random
from lit_modules import functional


def roc_auc() -> Outcome:
    """Measure how often a positive scores above a negative.

    Formula: P(s⁺ > s⁻) + ½ P(s⁺ = s⁻), the area under the ROC curve
    Source: Hanley & McNeil 1982, "The meaning and use of the area under a ROC curve"
    Mistake: Ranking ties by their order, which gives any value between "all lost" and "all won".
    Code: lit_modules/functional/ranking.py
    Picture: the ROC curve of ten other scores, with a slope where they tie
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    scores, labels = numbers(0.1, 0.4, 0.4, 0.4, 0.8, 0.4), torch.tensor([0, 1, 0, 0, 1, 1])
    positives, negatives = scores[labels == 1], scores[labels == 0]
    won = (positives[:, None] > negatives).double().mean()  # a tie counts as lost
    logits, classes = numbers((5, 4, 1), (1, 2, 0), (0, 1, 3), (3, 1, 2)), torch.tensor([0, 1, 2, 1])
    return Outcome(
        inputs={"scores": scores, "labels": labels, "logits": logits, "classes": classes},
        results=[
            Result(
                "AUC",
                functional.roc_auc(scores, labels),
                "scikit-learn",
                roc_auc_score(labels, scores),
                wrong=("ties lost", won),
            ),
            Result(
                "three classes, the mean over one against the rest",
                functional.one_vs_rest_auc(logits.softmax(-1), classes),
                "scikit-learn",
                roc_auc_score(classes, logits.softmax(-1), multi_class="ovr"),
                wrong=("logits", functional.one_vs_rest_auc(logits, classes)),
            ),
        ],
    )


def perplexity() -> Outcome:
    """Say among how many equally likely tokens a model hesitates.

    Formula: exp(Σ_n ℓ_n / N); for windows exp(Σ_i ℓ_i n_i / Σ_i n_i)
    Source: Jelinek et al. 1977, "Perplexity: a measure of the difficulty of speech recognition tasks"
    Mistake: Averaging the perplexities, or the losses, of windows that score different numbers of tokens.
    Code: lit_modules/functional/perplexity.py
    """
    tokens = torch.tensor([0, 3, 1, 1, 4, 2, 0, 3, 3])
    logits = random(9, 5) + 2 * F.one_hot(tokens, 5)  # a model that often knows the token
    counts = [4, 2, 2, 1]
    losses = F.cross_entropy(logits, tokens, reduction="none")
    means = torch.stack([part.mean() for part in losses.split(counts)])
    oracle, whole = "exp(F.cross_entropy)", losses.mean().exp()
    ours = functional.perplexity(logits, tokens)
    return Outcome(
        inputs={
            "windows": "4 tokens, moved by 2",
            "new tokens in each": torch.tensor(counts),
            "their mean loss": means,
        },
        results=[
            Result(
                "mean log p",
                functional.token_log_probs(logits, tokens).mean(),
                "F.cross_entropy",
                -losses.mean(),
            ),
            Result("whole text", ours, oracle, whole, wrong=("mean of the losses", means.mean().exp())),
            Result(
                "from the windows",
                functional.perplexity_of_windows(means, torch.tensor(counts)),
                oracle,
                whole,
                wrong=("mean of perplexities", means.exp().mean()),
            ),
        ],
    )


def edit_distance() -> Outcome:
    """Count the edits that turn one word into another.

    Formula: d(i, j) = min(d(i−1, j−1) + [a_i ≠ b_j], d(i−1, j) + 1, d(i, j−1) + 1)
    Source: Levenshtein 1966; Wagner & Fischer 1974, "The string-to-string correction problem"
    Mistake: Counting the padding of a batch as letters.
    Code: lit_modules/functional/edit_distance.py
    """
    pairs = [("kitten", "sitting"), ("sun", "saturday"), ("same", "same")]
    lengths = torch.tensor([[len(a), len(b)] for a, b in pairs])
    left, right = (torch.tensor([[ord(c) for c in pair[side].ljust(8)] for pair in pairs]) for side in (0, 1))

    def recursive(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        if a[-1] == b[-1]:
            return recursive(a[:-1], b[:-1])
        return 1 + min(recursive(a[:-1], b[:-1]), recursive(a[:-1], b), recursive(a, b[:-1]))

    padded = functional.edit_distance(left, right)
    return Outcome(
        inputs={"words": ", ".join(f"{a} → {b}" for a, b in pairs)},
        results=[
            Result(
                "edits",
                functional.edit_distance(left, right, a_lengths=lengths[:, 0], b_lengths=lengths[:, 1]),
                "recursion",
                numbers(*(recursive(a, b) for a, b in pairs)),
                wrong=("with padding", padded),
            )
        ],
    )
