"""Continue several prompts at once and show the texts while they grow."""

import dataclasses
from collections.abc import Callable, Sequence

from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.text_stream import TextStream
from lit_modules.configs.generation import SamplingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continuation:
    """One continued text."""

    text: str  # the text after the prompt
    tokens: int  # number of generated tokens


def continue_texts(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
    *,
    seeds: Sequence[int] | None = None,
    stop: Sequence[str] = (),
    use_cache: bool = True,
    show: Callable[[int, str], None] | None = None,
) -> list[Continuation]:
    """Continue prompts until each text stops or has `settings.max_new_tokens` more tokens.

    Args:
        model: An opened language model.
        prompts: Token ids of each prompt.
        settings: How to choose tokens. The model's own stop ids are added.
        seeds: One seed per prompt; `settings.seed` for all by default.
        stop: Strings that end a text. They are not part of the text.
        use_cache: See `generate`.
        show: Called with the index of a text and its next characters. All texts grow together, but they are
            shown one after the other. The text that is shown grows live.

    Raises:
        ValueError: As in `generate`.
    """
    from lit_modules.generation.generate import generate

    streams = [TextStream(model.tokenizer.token_bytes, stop) for _ in prompts]
    ended, shown, live = [False] * len(prompts), [0] * len(prompts), 0

    def show_new_text() -> None:
        nonlocal live
        while show is not None and live < len(streams):
            if new := streams[live].text[shown[live] :]:
                show(live, new)
            shown[live] += len(new)
            if not ended[live]:
                return
            live += 1

    def on_token(row: int, token: int) -> bool:
        if streams[row].push(token) and row == live:
            show_new_text()
        return streams[row].stopped

    def on_end(row: int) -> None:
        streams[row].finish()
        ended[row] = True
        show_new_text()

    settings = dataclasses.replace(settings, stop_ids=[*settings.stop_ids, *model.stop_ids])
    new = generate(
        model.network,
        prompts,
        settings,
        seeds=seeds,
        use_cache=use_cache,
        vocab_size=model.tokenizer.vocab_size,
        on_token=on_token,
        on_end=on_end,
    )
    return [Continuation(text=s.text, tokens=len(ids)) for s, ids in zip(streams, new, strict=True)]
