import random

import pytest

from experiments.language_models.text_stream import TextStream

TEXT = "Fürwahr, 𝄞 sah ich: 日本!\n"


def stream(pieces: list[bytes], *stop: str) -> tuple[list[str], TextStream]:
    """What comes out for each piece and at the end, of a vocabulary that has just these pieces."""
    made = TextStream(pieces.__getitem__, stop)
    out = [made.push(token) for token in range(len(pieces))]
    return [*out, made.finish()], made


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_characters_come_out_whole_with_their_last_byte(size: int) -> None:
    data = TEXT.encode()
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    out, made = stream(pieces)
    assert "".join(out) == TEXT == made.text
    assert "\ufffd" not in made.text
    for count in range(len(pieces)):  # all that can be known is out
        known = b"".join(pieces[: count + 1]).decode("utf-8", errors="ignore")
        assert "".join(out[: count + 1]) == known


@pytest.mark.parametrize(
    "data", [b"\xff", b"a\xc3", b"\xe6\x97x", b"\x80\x80abc\xf0\x9d\x84", bytes(range(256))]
)
def test_bytes_that_are_no_text_become_replacement_characters_as_in_one_piece(data: bytes) -> None:
    out, made = stream([data[i : i + 1] for i in range(len(data))])
    assert "".join(out) == made.text == data.decode("utf-8", errors="replace")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("stop", ["\n\n", "END", "ana", "日本", "aaab", "n"])
def test_the_text_ends_before_the_stop_string_and_shows_nothing_of_it(size: int, stop: str) -> None:
    for text in ("banana aaaab END\n\nrest 日本", "no such thing", "EN", "\n"):
        data = text.encode()
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        out, made = stream(pieces, stop)
        assert "".join(out) == made.text == text.partition(stop)[0]
        assert made.stopped == (stop in text)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    pieces = [b"a", b"b", b"x", b"ab", b"ab", b"c", b"d"]
    out, made = stream(pieces, "abc")
    assert out == ["", "", "abx", "", "ab", "", "", ""]
    assert made.stopped
    out, made = stream([b"x", b"a"], "abc")
    assert out == ["x", "", "a"]  # the end decides
    assert not made.stopped


def test_of_several_stop_strings_the_first_that_is_complete_counts() -> None:
    for size in (1, 2, 3, 4):
        data = b"0123456789"
        pieces = [data[i : i + size] for i in range(0, 10, size)]
        assert stream(pieces, "789", "456", "3456x")[1].text == "0123"
        assert stream(pieces, "34567", "56")[1].text == "01234"
        assert stream(pieces, "3456", "56")[1].text == "012"
        assert stream(pieces, "", "9")[1].text == "012345678"  # an empty one stops nothing


def test_any_text_in_any_pieces() -> None:
    chance = random.Random(0)
    for _ in range(300):
        text = "".join(chance.choices("abé日", k=chance.randrange(12)))
        stops = [
            "".join(chance.choices("abé日", k=chance.randrange(1, 4))) for _ in range(chance.randrange(3))
        ]
        data, pieces = text.encode(), []
        while data:
            size = chance.randrange(1, 5)
            pieces.append(data[:size])
            data = data[size:]
        out, made = stream(pieces, *stops)
        ends = [(text.index(s) + len(s), text.index(s)) for s in stops if s in text]
        assert "".join(out) == made.text == (text[: min(ends)[1]] if ends else text)
