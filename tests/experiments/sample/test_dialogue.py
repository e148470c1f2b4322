"""Dialogues with a tiny random chat model, through a pipe and at a terminal."""

import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.language_models.opening import open_language_model
from experiments.sample.__main__ import main
from lit_modules.generation import decoding
from lit_modules.networks.decoding_lm import DecodingLM
from tests.chat_templates import TEMPLATES


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def chat_model(write_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_llama(
        tmp_path_factory.mktemp("chat") / "llama", max_position_embeddings=400, initializer_range=0.3
    )
    (folder / "chat_template.jinja").write_text(TEMPLATES["smollm2"], encoding="utf-8")
    return str(folder)


@pytest.fixture
def talk(
    chat_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that sends bytes through a pipe: exit status, output and errors."""

    def send(
        typed: bytes, *more: str, stream: type[io.TextIOWrapper] = io.TextIOWrapper
    ) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", stream(io.BytesIO(typed)))
        status = main([chat_model, "--chat", "--precision", "fp32", "--max-new-tokens", "12", *more])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return send


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of each call of the network."""
    lengths: list[int] = []
    forward = DecodingLM.forward

    def counted(self: DecodingLM, tokens: torch.Tensor, **more: Any) -> torch.Tensor:
        lengths.append(tokens.shape[1])
        return forward(self, tokens, **more)

    monkeypatch.setattr(DecodingLM, "forward", counted)
    return lengths


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_each_line_is_a_turn_that_sees_the_earlier_ones(
    talk: Callable[..., tuple[int, str, str]], chat_model: str, read: list[int]
) -> None:
    """The answers are those of the whole conversation, but its beginning is read only once."""
    status, out, err = talk(b"Hi\n\n  \nAnd you?\nBye", "--json")
    assert (status, err) == (0, "")
    answers = records(out)
    assert [answer["chat"] for answer in answers] == ["Hi", "And you?", "Bye"]
    turns = [length for length in read if length > 1]
    assert len(turns) == 3
    assert turns[0] > 90 > 40 > max(turns[1:])
    model = open_language_model(chat_model)
    assert model.chat is not None
    ids = model.chat.opening()
    with torch.no_grad():
        for answer in answers:
            ids += model.chat.question(answer["chat"])
            made: list[int] = []
            while len(made) < 12:
                token = int(model.network(torch.tensor([ids]))[0, -1, :259].argmax())
                if token in model.stop_ids:
                    break
                made.append(token)
                ids.append(token)
            assert answer["text"] == model.tokenizer.decode(made)
            assert answer["tokens"] == len(made)
            ids += model.chat.answer_end()


def test_the_text_of_an_answer_is_printed_without_the_cache_too(
    talk: Callable[..., tuple[int, str, str]],
) -> None:
    typed = b"Hi\nAnd you?\n"
    expected = "".join(f"{answer['text']}\n" for answer in records(talk(typed, "--json")[1]))
    assert talk(typed)[1] == talk(typed, "--no-cache")[1] == expected
    assert talk(typed, "--stop", expected[3:5])[1].startswith(expected[:3] + "\n")


def test_reset_forgets_and_exit_ends(talk: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = talk(b"Hi\nHi\n/reset\nHi\n/exit\nHi\n", "--json")
    first, second, third = records(out)
    assert (status, err) == (0, "note: the conversation starts again\n")
    assert first == third != second


def test_system_message_and_seed_matter(talk: Callable[..., tuple[int, str, str]]) -> None:
    plain = talk(b"Hi\n")[1]
    assert talk(b"Hi\n", "--system", "You are a pirate.")[1] != plain
    sampled = [talk(b"Hi\n/reset\nHi\n", "--temperature", "1", "--seed", seed)[1] for seed in "001"]
    assert sampled[0] == sampled[1] != sampled[2]
    first, second = records(talk(b"Hi\n/reset\nHi\n", "--temperature", "1", "--json")[1])
    assert first["text"] != second["text"]  # another turn, another seed


def test_a_conversation_beyond_the_context_loses_its_first_turns(
    talk: Callable[..., tuple[int, str, str]],
) -> None:
    status, out, err = talk(b"What is this?\n" * 8)
    assert status == 0
    assert len(out.splitlines()) >= 8
    assert set(err.splitlines()) == {
        "note: the conversation is too long for the model; first turns forgotten: 3"
    }


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (b"x" * 500, "line 2 of standard input: the message is too long: with the system message it has"),
        ("grün".encode("latin-1"), "line 2 of standard input is not UTF-8 text"),
        (b"/rest", "line 2 of standard input: there is no command /rest; use /reset or /exit"),
    ],
)
def test_in_a_pipe_a_mistake_ends_the_command(
    typed: bytes, said: str, talk: Callable[..., tuple[int, str, str]]
) -> None:
    status, out, err = talk(b"Hi\n" + typed + b"\nHi\n", "--json")
    assert (status, len(records(out))) == (2, 1)
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1


def test_at_a_terminal_the_dialogue_goes_on(
    talk: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C stops an answer or a line, mistakes are notes, and Ctrl-D ends."""
    lines: list[Any] = ["x" * 500, "/rest", KeyboardInterrupt, "Hi", "And you?", EOFError]

    def typed(prompt: str) -> str:
        line = lines.pop(0)
        if not isinstance(line, str):
            raise line
        return line

    monkeypatch.setattr("builtins.input", typed)
    call, calls = decoding.Decoding.next_logits, []

    def interrupted(self: decoding.Decoding, *arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return call(self, *arguments)

    monkeypatch.setattr(decoding.Decoding, "next_logits", interrupted)
    status, out, err = talk(b"", "--json", stream=Terminal)
    assert status == 0
    assert [answer["chat"] for answer in records(out.strip())] == ["And you?"]
    opened, long, command, stopped = err.splitlines()
    assert "in fp32. /reset forgets the conversation, /exit ends it, Ctrl-C stops an answer" in opened
    assert long.startswith("note: the message is too long")
    assert command == "note: there is no command /rest; use /reset or /exit"
    assert stopped == "note: stopped"
    # The three tokens before Ctrl-C belong to the conversation.
    first, second = calls[0][0][0], calls[4][0][0]
    assert second[: len(first)] == first
    assert len(second) > len(first) + 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--chat", "Hi"], "--chat without a text is a dialogue: leave out the other --chat"),
        (["--samples", "2"], "a dialogue has one answer for each message: leave out --samples"),
        (["--steer", "runs/steer"], "a dialogue is steered by a vector"),
    ],
)
def test_refuses_what_does_not_go_with_a_dialogue(
    more: list[str], said: str, talk: Callable[..., tuple[int, str, str]]
) -> None:
    status, out, err = talk(b"Hi\n", *more)
    assert (status, out) == (2, "")
    assert said in err


def test_a_model_without_a_chat_format_is_refused(
    language_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--system", "Be short."]):
        assert main([str(language_run), "--chat", *more]) == 2
        assert (
            "has no chat template that the suite knows; continue a text with --prompt"
            in capsys.readouterr().err
        )
    assert main([str(language_run), "--prompt", "the", "--system", "Be short."]) == 2
    assert "--system is for a chat model: give --chat too" in capsys.readouterr().err
