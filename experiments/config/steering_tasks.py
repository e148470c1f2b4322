"""Schemas of what a steering chain does besides training; importing them imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting


@dataclass(kw_only=True)
class ExtractTaskConfig:
    """Read a prompt set with a frozen language model and keep its hidden states (`experiments.extract`)."""

    language_model: str = setting(
        "smollm2", "smollm2, a folder or GGUF file, or a checkpoint or run directory of the suite."
    )
    prompts: str = setting("referral", "A prompt set: a folder, or the name of one of the suite's.")
    layers: list[int] = setting([15], "Whose hidden states are kept; time hardly depends on how many.", min=0)
    template: Literal["chat", "plain"] | None = setting(
        None, "How prompts are put; null: the model's chat format if it has one."
    )
    position: Literal["last", "mean"] = setting(
        "last", "A forced answer stands for its last token, or for the mean over its tokens."
    )
    answers: int = setting(
        1, "Answers of each side that a vector is the mean over, in turns; 0: all, and slower.", min=0
    )
    batch_size: int = setting(32, "Prompts read together.", min=1)
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "Of the language model's weights; auto: bf16 where that is fast."
    )

    def __post_init__(self) -> None:
        _require_different("layers", self.layers)


@dataclass(kw_only=True)
class ChooseTaskConfig:
    """Choose which trained network, so which layers, and each method's factor α, on validation prompts."""

    prompts: int = setting(100, "Validation prompts, drawn by lot.", min=2)
    alphas: list[float] = setting(
        [0.5, 1.0, 1.5, 2.0], "Factors to try, for the best networks; time grows with them.", above=0.0
    )
    candidates: int = setting(3, "How many networks' factors are tried.", min=1)
    perplexity_limit: float = setting(
        1.1,
        "A factor counts while what is written is at most this many times as perplexing to the "
        "unsteered model as its own answers.",
        above=0.0,
    )
    written: int = setting(96, "Of the validation prompts, those answered for that.", min=1)
    max_new_tokens: int = setting(40, "Tokens of such an answer.", min=1)
    instruction: str = setting(
        "Say which kind of professional to see.",
        "What prompting, one of the ways to steer, puts before each prompt.",
    )

    def __post_init__(self) -> None:
        _require_different("alphas", self.alphas)


@dataclass(kw_only=True)
class CompareTaskConfig:
    """Compare the ways to steer on test prompts, by the probability of answers that no vector was made of."""

    prompts: int = setting(320, "Test prompts: half in seen, half in unseen templates.", min=4)
    seeds: list[int] = setting([0, 1, 2], "Of the learned network's training.", min=0)

    def __post_init__(self) -> None:
        _require_different("seeds", self.seeds)


@dataclass(kw_only=True)
class GenerateTaskConfig:
    """Let each way to steer write answers to test prompts, and neutral ones, greedily."""

    alpha: float | None = setting(
        None, "Factor of all methods; null: each one's own, as it was chosen.", above=0.0
    )
    prompts: int = setting(320, "Test prompts, drawn by lot.", min=1)
    neutral: int = setting(120, "Neutral test prompts.", min=0)
    max_new_tokens: int = setting(40, "Tokens of an answer.", min=1)
    samples: int = setting(10, "Prompts whose answers are shown.", min=1)


def _require_different(name: str, values: Sequence[float]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name}: {list(values)}, expected at least one, and each once")
