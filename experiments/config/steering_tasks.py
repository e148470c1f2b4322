"""Schemas of the tasks of a steering chain; importing them imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting


@dataclass(kw_only=True)
class ExtractTaskConfig:
    """Read a prompt set with a frozen language model and save its hidden states (`experiments.extract`)."""

    language_model: str = setting(
        "smollm2",
        "Model to steer: smollm2, a folder, a GGUF file, a checkpoint, or a run directory.",
        is_path=True,
    )
    prompts: str = setting("referral", "Prompt set: a folder, or the name of an included set.", is_path=True)
    layers: list[int] = setting([15], "Layers to save; the time hardly depends on their number.", min=0)
    template: Literal["chat", "plain"] | None = setting(
        None, "Template of the prompts; null: chat if the model has a chat format."
    )
    position: Literal["last", "mean"] = setting(
        "last", "Hidden state of an answer: of its last token, or the mean over its tokens."
    )
    answers: int = setting(
        1, "Number of wanted and of unwanted answers per prompt, taken in turn; 0: all, slower.", min=0
    )
    batch_size: int = setting(32, "Number of prompts in a batch.", min=1)
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "Precision of the model's weights; auto: bf16 if the machine computes it fast."
    )

    def __post_init__(self) -> None:
        _require_different("layers", self.layers)


@dataclass(kw_only=True)
class ConversationsTaskConfig:
    """Write the wanted answers of a prompt set as conversations, from which low-rank updates learn."""

    max_new_tokens: int = setting(
        40, "Largest number of tokens in an answer of the model itself to a neutral prompt.", min=1
    )


@dataclass(kw_only=True)
class ChooseTaskConfig:
    """Choose the network, its layers, and the factor α of each method on validation prompts."""

    prompts: int = setting(100, "Number of validation prompts, a random sample.", min=2)
    seeds: list[int] | None = setting(
        None, "Training seeds of each network, to compare their mean margins; null: that of its stage.", min=0
    )
    alphas: list[float] = setting(
        [0.5, 1.0, 1.5, 2.0],
        "Factors to try with the best networks; the time grows with their number.",
        above=0.0,
    )
    candidates: int = setting(3, "Number of best networks for which factors are tried.", min=1)
    perplexity_limit: float = setting(
        1.1,
        "Largest allowed perplexity of steered answers, as a multiple of that of unsteered answers.",
        above=0.0,
    )
    written: int = setting(
        96, "Number of validation prompts that are answered to measure the perplexity.", min=1
    )
    max_new_tokens: int = setting(40, "Largest number of tokens in such an answer.", min=1)
    instruction: str = setting(
        "Say which kind of professional to see.", "Instruction before each prompt in the method prompting."
    )

    def __post_init__(self) -> None:
        _require_different("alphas", self.alphas)
        if self.seeds is not None:
            _require_different("seeds", self.seeds)


@dataclass(kw_only=True)
class CompareTaskConfig:
    """Compare the methods on test prompts, by the probability of held-out answers."""

    prompts: int = setting(
        320, "Number of test prompts, half with seen and half with unseen templates.", min=4
    )
    seeds: list[int] = setting([0, 1, 2], "Training seeds of the learned network.", min=0)

    def __post_init__(self) -> None:
        _require_different("seeds", self.seeds)


@dataclass(kw_only=True)
class GenerateTaskConfig:
    """Generate greedy answers to test prompts and to neutral prompts with each method."""

    alpha: float | None = setting(
        None, "Factor of all methods; null: the chosen factor of each method.", above=0.0
    )
    prompts: int = setting(320, "Number of test prompts, a random sample.", min=1)
    neutral: int = setting(120, "Number of neutral test prompts.", min=0)
    max_new_tokens: int = setting(40, "Largest number of tokens in an answer.", min=1)
    samples: int = setting(10, "Number of prompts in samples.md.", min=1)


def _require_different(name: str, values: Sequence[float]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name}: {list(values)}, expected at least one value and no value twice")
