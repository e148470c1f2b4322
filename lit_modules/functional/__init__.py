"""Pure functions of tensors: softmax, losses, ranking metrics, policy objectives, sampling of tokens.

    from lit_modules.functional import cross_entropy

`backward` and `normalization` hold single steps with backward passes derived by hand. `blocks`, `precision`,
`reduction` and `value_checks` hold what several functions share.
"""

from lit_modules.functional.contrastive import info_nce, nt_xent
from lit_modules.functional.cross_entropy import (
    binary_cross_entropy_from_probabilities,
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_from_probabilities,
)
from lit_modules.functional.divergence import kl_divergence, kl_divergence_from_logits
from lit_modules.functional.edit_distance import edit_alignment, edit_distance
from lit_modules.functional.focal import focal_loss, sigmoid_focal_loss
from lit_modules.functional.numerics import (
    PiEstimate,
    SquareRoot,
    fisher_yates_shuffle,
    monte_carlo_pi,
    reservoir_sample,
    sqrt_gradient_descent,
    sqrt_newton,
)
from lit_modules.functional.perplexity import perplexity, perplexity_of_windows
from lit_modules.functional.policy import (
    clip_fraction,
    group_advantages,
    grpo_loss,
    k3_divergence,
    token_entropy,
    token_log_probs,
)
from lit_modules.functional.ranking import one_vs_rest_auc, roc_auc
from lit_modules.functional.regression import mse
from lit_modules.functional.sampling import (
    greedy,
    min_p,
    repetition_penalty,
    sample_token,
    temperature,
    top_k,
    top_p,
)
from lit_modules.functional.softmax import log_softmax, logsumexp, softmax

__all__ = [
    "PiEstimate",
    "SquareRoot",
    "binary_cross_entropy_from_probabilities",
    "binary_cross_entropy_with_logits",
    "clip_fraction",
    "cross_entropy",
    "cross_entropy_from_probabilities",
    "edit_alignment",
    "edit_distance",
    "fisher_yates_shuffle",
    "focal_loss",
    "greedy",
    "group_advantages",
    "grpo_loss",
    "info_nce",
    "k3_divergence",
    "kl_divergence",
    "kl_divergence_from_logits",
    "log_softmax",
    "logsumexp",
    "min_p",
    "monte_carlo_pi",
    "mse",
    "nt_xent",
    "one_vs_rest_auc",
    "perplexity",
    "perplexity_of_windows",
    "repetition_penalty",
    "reservoir_sample",
    "roc_auc",
    "sample_token",
    "sigmoid_focal_loss",
    "softmax",
    "sqrt_gradient_descent",
    "sqrt_newton",
    "temperature",
    "token_entropy",
    "token_log_probs",
    "top_k",
    "top_p",
]
