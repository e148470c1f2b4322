"""How text is continued, as values; importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class SamplingConfig:
    """How each next token is chosen, and where a text ends. The defaults draw from the model as it is."""

    temperature: float = setting(
        1.0, "Below 1 bolder, above 1 wilder; 0 always takes the most probable.", min=0.0
    )
    top_k: int | None = setting(None, "Choose among this many most probable tokens.", min=1)
    top_p: float = setting(
        1.0,
        "Choose among the fewest most probable tokens that have this probability together.",
        above=0.0,
        max=1.0,
    )
    min_p: float = setting(
        0.0, "Leave out tokens less probable than this share of the most probable one.", min=0.0, max=1.0
    )
    repetition_penalty: float = setting(
        1.0, "Above 1 makes tokens that the text already has less probable.", above=0.0
    )
    seed: int = setting(0, "Decides every draw.", min=0)
    max_new_tokens: int = setting(200, "Tokens after the prompt, at most.", min=1)
    stop_ids: list[int] = setting([], "Tokens that end the text and are no part of it.", min=0)
