"""Several prompts are continued at once and shown one after the other."""

from collections.abc import Callable
from pathlib import Path

from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_trained
from experiments.sample.continuation import continue_texts
from lit_modules.configs.generation import SamplingConfig
from lit_modules.generation.generate import generate

GREEDY = SamplingConfig(temperature=0, max_new_tokens=30)


def test_text_is_shown_as_it_grows_in_whole_characters(scripted: Callable[..., LoadedModel]) -> None:
    shown: list[str] = []
    (made,) = continue_texts(scripted("日本 𝄞 x"), [[0]], GREEDY, show=lambda row, new: shown.append(new))
    assert "".join(shown) == made.text
    assert shown[:5] == ["日", "本", " ", "𝄞", " "]
    assert made.tokens == 30
    assert made.text.endswith("\ufffd")  # the last token ends within a character


def test_stop_strings_and_stop_ids_end_a_text(scripted: Callable[..., LoadedModel]) -> None:
    shown: list[str] = []
    (made,) = continue_texts(
        scripted("one. two. three."), [[0]], GREEDY, stop=["two"], show=lambda row, new: shown.append(new)
    )
    assert made.text == "".join(shown) == "one. "
    assert made.tokens == 8
    (made,) = continue_texts(scripted("one. two.", stop_ids=[ord(".")]), [[0]], GREEDY)
    assert made.text == "one"


def test_of_several_texts_the_first_unfinished_one_is_shown_live(
    scripted: Callable[..., LoadedModel],
) -> None:
    """Row 0 ends last, row 1 first."""
    events: list[tuple[int, str]] = []
    model = scripted("abcdefgh.ij.klm.", stop_ids=[ord(".")])
    made = continue_texts(model, [[0], [9], [12]], GREEDY, show=lambda row, new: events.append((row, new)))
    assert [m.text for m in made] == ["abcdefgh", "ij", "klm"]
    assert events == [*((0, c) for c in "abcdefgh"), (1, "ij"), (2, "klm")]


def test_it_is_what_generate_gives(language_run: Path) -> None:
    model = open_trained(language_run)
    settings = SamplingConfig(max_new_tokens=40, seed=5)
    prompts = [model.tokenizer.encode(text) for text in ("the ", "a dog ran to the café.\nthe cat")]
    expected = generate(model.network, prompts, settings)
    for use_cache in (True, False):
        made = continue_texts(model, prompts, settings, use_cache=use_cache)
        assert [m.text for m in made] == [model.tokenizer.decode(ids) for ids in expected]
