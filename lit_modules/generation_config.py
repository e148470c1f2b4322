"""How text is continued, as values; importing it imports no torch."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class SamplingConfig:
    """How each next token is chosen, and where a text ends. The defaults draw from the model as it is."""

    temperature: float = field(
        default=1.0,
        metadata={"help": "Below 1 bolder, above 1 wilder; 0 always takes the most probable.", "min": 0.0},
    )
    top_k: int | None = field(
        default=None, metadata={"help": "Choose among this many most probable tokens.", "min": 1}
    )
    top_p: float = field(
        default=1.0,
        metadata={
            "help": "Choose among the fewest most probable tokens that have this probability together.",
            "above": 0.0,
            "max": 1.0,
        },
    )
    min_p: float = field(
        default=0.0,
        metadata={
            "help": "Leave out tokens less probable than this share of the most probable one.",
            "min": 0.0,
            "max": 1.0,
        },
    )
    repetition_penalty: float = field(
        default=1.0,
        metadata={"help": "Above 1 makes tokens that the text already has less probable.", "above": 0.0},
    )
    seed: int = field(default=0, metadata={"help": "Decides every draw.", "min": 0})
    max_new_tokens: int = field(default=200, metadata={"help": "Tokens after the prompt, at most.", "min": 1})
    stop_ids: list[int] = field(
        default_factory=list, metadata={"help": "Tokens that end the text and are no part of it.", "min": 0}
    )
