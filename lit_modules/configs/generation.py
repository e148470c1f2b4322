"""Schema of text generation; importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class SamplingConfig:
    """Settings of sampling and stopping. The defaults sample from the model's distribution."""

    temperature: float = setting(
        1.0, "Below 1: safer text; above 1: more varied text; 0: always the most probable token.", min=0.0
    )
    top_k: int | None = setting(None, "Sample from this many most probable tokens only.", min=1)
    top_p: float = setting(
        1.0,
        "Sample from the smallest set of most probable tokens with this total probability.",
        above=0.0,
        max=1.0,
    )
    min_p: float = setting(
        0.0, "Exclude tokens less probable than this share of the most probable one.", min=0.0, max=1.0
    )
    repetition_penalty: float = setting(
        1.0, "Above 1: tokens that the text already contains become less probable.", above=0.0
    )
    seed: int = setting(0, "Seed of the sampling.", min=0)
    max_new_tokens: int = setting(200, "Largest number of new tokens.", min=1)
    stop_ids: list[int] = setting([], "Tokens that end the text; they are not part of it.", min=0)
