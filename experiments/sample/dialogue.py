"""Talk with a chat model: lines come in, answers go out."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from experiments.errors import UserError
from experiments.language_models.conversation import Conversation
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.text_stream import TextStream
from experiments.sample.prompt_encoding import require_chat
from lit_modules.configs.generation import SamplingConfig

RESET, EXIT = "/reset", "/exit"
"""Lines that are commands."""


class Dialogue:
    """Answers messages one after the other; the model remembers the earlier ones.

    Args:
        model: A chat model.
        settings: How to choose tokens. Turn i is sampled with seed `settings.seed` + i.
        stop: Strings that end an answer.
        use_cache: Keep the keys and values of earlier turns.
        as_json: Print a JSON object for each answer, instead of the text while it grows.

    Raises:
        UserError: The model has no chat format.
    """

    def __init__(
        self,
        model: LoadedModel,
        settings: SamplingConfig,
        *,
        stop: Sequence[str] = (),
        use_cache: bool = True,
        as_json: bool = False,
    ) -> None:
        from lit_modules.generation.decoding import Decoding

        self._model = model
        self._settings = settings
        self._stop = stop
        self._as_json = as_json
        self._conversation = Conversation(require_chat(model), model.context_length)
        self._decoding = Decoding(model.network, max_new_tokens=self._conversation.limit, use_cache=use_cache)
        self._turn = 0

    def take(self, line: str) -> bool:
        """Run a command or answer a message; return False if the dialogue is to end.

        Raises:
            UserError: There is no such command, or the model cannot read the message.
        """
        message = line.strip()
        if message == EXIT:
            return False
        if message == RESET:
            self._conversation.reset()
            _note("the conversation starts again")
        elif message.startswith("/") and " " not in message:
            raise UserError(f"there is no command {message}; use {RESET} or {EXIT}")
        elif message:
            self._answer(message)
        return True

    def _answer(self, message: str) -> None:
        from lit_modules.generation.generate import generate

        prompt, dropped = self._conversation.ask(message, room=self._settings.max_new_tokens)
        if dropped:
            _note(f"the conversation is too long for the model; first turns forgotten: {dropped}")
        tokenizer = self._model.tokenizer
        stream, ids = TextStream(tokenizer.token_bytes, self._stop), list[int]()

        def on_token(row: int, token: int) -> bool:
            ids.append(token)
            self._show(stream.push(token))
            return stream.stopped

        room = self._conversation.limit - len(prompt)
        settings = dataclasses.replace(
            self._settings,
            max_new_tokens=min(self._settings.max_new_tokens, room),
            stop_ids=[*self._settings.stop_ids, *self._model.stop_ids],
        )
        try:
            generate(
                self._model.network,
                [prompt],
                settings,
                decoding=self._decoding,
                seeds=[self._settings.seed + self._turn],
                vocab_size=tokenizer.vocab_size,
                on_token=on_token,
            )
            self._show(stream.finish())
        finally:  # the part of an answer before Ctrl-C belongs to the conversation
            self._show("\n")
            if ids:
                self._conversation.add(ids)
                self._turn += 1
        if self._as_json:
            record = {"chat": message, "text": stream.text, "tokens": len(ids)}
            print(json.dumps(record, ensure_ascii=False), flush=True)

    def _show(self, text: str) -> None:
        if text and not self._as_json:
            print(text, end="", flush=True)


def converse(dialogue: Dialogue, title: str) -> None:
    """Answer each line of standard input until it ends.

    At a terminal, Ctrl-C stops an answer, Ctrl-D ends the dialogue, and a mistake is a note. Elsewhere, they
    end the command.

    Raises:
        UserError: Without a terminal, a line is not UTF-8 text, or the model cannot read it.
    """
    if sys.stdin is None:
        raise UserError("--chat without a text reads standard input, which is closed")
    if not sys.stdin.isatty():
        for number, line in enumerate(sys.stdin.buffer, start=1):
            try:
                if not dialogue.take(line.decode("utf-8-sig")):
                    return
            except UnicodeDecodeError as error:
                raise UserError(f"line {number} of standard input is not UTF-8 text") from error
            except UserError as error:
                raise UserError(f"line {number} of standard input: {error}") from error
        return
    _note(f"{title}. {RESET} forgets the conversation, {EXIT} ends it, Ctrl-C stops an answer")
    for line in _typed_lines():
        try:
            if not dialogue.take(line):
                return
        except KeyboardInterrupt:
            _note("stopped")
        except UserError as error:
            _note(str(error))


def _typed_lines() -> Iterator[str]:
    """Yield what a person types, with the line editing of the terminal, until Ctrl-D."""
    with suppress(ImportError):  # Windows has none
        import readline  # noqa: F401
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
        except UnicodeDecodeError:
            _note("this line is not UTF-8 text")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
