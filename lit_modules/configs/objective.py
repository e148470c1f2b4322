"""Schemas of the objectives; importing them imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from datamodules.setting import setting

CLASS_OBJECTIVES = (
    "cross_entropy",
    "cross_entropy_from_probabilities",
    "binary_cross_entropy",
    "binary_cross_entropy_from_probabilities",
    "mse",
    "kl",
    "focal",
    "distillation",
)
"""Objectives of a model that predicts one class for each input; the first is the default."""
TOKEN_OBJECTIVES = ("cross_entropy", "cross_entropy_from_probabilities", "kl", "focal")
"""Objectives of a model that predicts tokens; the first is the default."""
PAIR_OBJECTIVES = ("nt_xent", "info_nce")
"""Objectives of a model that compares two views of each input; the first is the default."""
ANSWER_OBJECTIVES = (*TOKEN_OBJECTIVES, "grpo")
"""Objectives of a model that answers prompts; the first is the default."""
VECTOR_OBJECTIVES = ("mse", "mse_l1_cosine")
"""Objectives of a model that predicts vectors; the first is the default."""


def _implementation() -> Any:
    return setting("fused", "PyTorch's loss functions, or the formula by hand; same results.")


def _label_smoothing() -> Any:
    text = "Share of each training target that is spread over all classes."
    return setting(0.0, text, min=0.0, max=1.0)


@dataclass(kw_only=True)
class CrossEntropyConfig:
    """−log softmax(outputs)_t for the true class t."""

    label_smoothing: float = _label_smoothing()
    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class CrossEntropyFromProbabilitiesConfig:
    """−Σ_c q_c log p_c from p = softmax(outputs) and one-hot targets q, with log p ≥ −100."""

    label_smoothing: float = _label_smoothing()


@dataclass(kw_only=True)
class BinaryCrossEntropyConfig:
    """−t log σ(z) − (1 − t) log(1 − σ(z)) for each output z; two classes share one output."""

    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class BinaryCrossEntropyFromProbabilitiesConfig:
    """The same from p = σ(z), with each logarithm ≥ −100."""

    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class MSEConfig:
    """The mean of (y − t)²; for classes, y = softmax(outputs) and t is one-hot."""

    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class MSEL1CosineConfig:
    """The mean squared error, plus the mean absolute error, minus the mean cosine."""


@dataclass(kw_only=True)
class KLConfig:
    """KL(q ‖ softmax(outputs)) for smoothed one-hot targets q."""

    label_smoothing: float = _label_smoothing()
    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class FocalConfig:
    """−α_t (1 − p_t)^γ log p_t for the probability p_t of the true class t."""

    gamma: float = setting(
        2.0, "Exponent γ; the larger, the less a class that is already probable counts.", min=0.0
    )
    alpha: list[float] = setting([], "Factor α of each class; an empty list means 1.", min=0.0)
    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class DistillationConfig:
    """T² KL(teacher ‖ student) at the temperature T; the teacher is a trained classifier of the same data."""

    teacher: str = setting(
        help="The classifier whose probabilities are learned: a checkpoint, or an earlier stage.",
        resume="free",
        is_path=True,
    )
    temperature: float = setting(
        4.0, "Temperature T of both; larger: improbable classes count more.", above=0, max=1e6
    )
    label_weight: float = setting(
        0.0, "Share of the cross-entropy of the true class in the loss; 0 needs no labels.", min=0, max=1
    )
    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class NTXentConfig:
    """The cross-entropy of finding the other view of an image among all other views of the batch (SimCLR)."""

    temperature: float = setting(
        0.5, "Temperature τ; lower: the most similar other images count more.", above=0, max=1e6
    )
    implementation: Literal["fused", "by_hand"] = _implementation()


@dataclass(kw_only=True)
class InfoNCEConfig(NTXentConfig):
    """The cross-entropy of finding an image's second view among all second views, and the reverse."""

    temperature: float = setting(
        0.1, "Temperature τ; lower: the most similar other images count more.", above=0, max=1e6
    )


@dataclass(kw_only=True)
class GRPOConfig:
    """−min(ρ A, clip(ρ) A) + β KL over answers that the model has sampled itself.

    A group is the answers to one prompt. The advantage A compares the reward of an answer with those of its
    group, and ρ is the probability of the answer divided by that when it was sampled.
    """

    group_size: int = setting(8, "Number of answers sampled to each prompt.", min=1, max=10_000)
    temperature: float = setting(
        1.0, "Temperature of the sampled and of the learned probabilities.", min=0.01, max=100.0
    )
    inner_epochs: int = setting(
        1,
        "Number of optimizer steps on the same answers. From the second on, the ratio differs from 1, and "
        "the next batches of prompts are left out.",
        min=1,
        max=1000,
    )
    advantage: Literal["normalized", "centered", "raw"] = setting(
        "normalized",
        "normalized: (reward − mean) / deviation of the group; centered: without the division; raw: reward.",
    )
    unbiased_std: bool = setting(
        False, "Divide by n − 1 instead of n in the standard deviation of n rewards, as TRL does."
    )
    ratio: Literal["token", "sequence", "none"] = setting(
        "token",
        "Ratio of each token (GRPO), or the mean ratio of the whole answer (GSPO). none: 1 always, as if the "
        "model had just sampled the answers (REINFORCE).",
    )
    clip: float = setting(0.2, "Distance ε; ratios below 1 − ε are clipped.", min=0.0)
    clip_high: float | None = setting(None, "Ratios above 1 + this are clipped; null: clip.", min=0.0)
    kl_weight: float = setting(
        0.0, "Factor β of the divergence from the initial model. Above 0 it costs memory and time.", min=0.0
    )
    normalization: Literal["sequence", "token", "constant", "none"] = setting(
        "sequence",
        "What the sum over tokens is divided by. sequence: the length of each answer, then the number of "
        "answers (GRPO); token: all tokens (DAPO); constant: the length of the longest correct answer, times "
        "the number of answers (Dr. GRPO); none: 1. With trainer.accumulate_grad_batches, each batch is "
        "divided by its own number, and a step takes the mean of its batches.",
    )
    skip_zero_advantages: bool = setting(
        False,
        "Leave out answers with advantage 0 (DAPO). It saves time; without a kl_weight such answers teach "
        "nothing.",
    )

    def __post_init__(self) -> None:
        if self.group_size == 1 and self.advantage != "raw":
            raise ValueError(
                f"group_size: 1 with advantage {self.advantage} makes every advantage 0; "
                "use at least 2, or advantage raw"
            )
