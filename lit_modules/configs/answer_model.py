"""Schema of the model that answers prompts; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from datamodules.setting import setting
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.configs.objective import ANSWER_OBJECTIVES


@dataclass(kw_only=True)
class AnswerModelConfig(LanguageModelConfig):
    """A language model that answers prompts, trained on given answers or by rewards of its own."""

    objectives: ClassVar[tuple[str, ...]] = ANSWER_OBJECTIVES
    has_reward: ClassVar[bool] = True

    test_samples: int = setting(
        8,
        "Number k of answers sampled to each test problem, for pass@k: the share of problems with a correct "
        "answer among them.",
        min=1,
        max=1000,
    )
