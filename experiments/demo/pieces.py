"""The list of pieces, read from the docstrings of the demos without importing torch.

A demo is a public function without arguments in a file of `TOPICS`. Its docstring begins with a line that
says what the piece does, and then has the fields of `Piece`.
"""

import ast
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.demo.outcome import Outcome

TOPICS = (
    "probabilities",
    "losses",
    "preference_losses",
    "gradients",
    "image_layers",
    "norms",
    "attention_kinds",
    "positions",
    "transformer_parts",
    "recurrent_steps",
    "evaluation",
    "chance",
)
"""The files with demos, in the order of the list."""

FIELDS = ("formula", "source", "mistake", "code", "picture")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One piece, as its demo describes it."""

    name: str
    topic: str  # the first line of the docstring of its file
    file: str  # the file of the demo, an entry of TOPICS
    does: str
    formula: str
    source: str
    mistake: str  # the usual one
    code: str  # our file
    picture: str = ""  # what `--plot` draws; empty for a piece without a picture

    def load(self) -> Callable[[], "Outcome"]:
        """Import the demo."""
        demo: Callable[[], Outcome] = getattr(
            importlib.import_module(f"experiments.demo.{self.file}"), self.name
        )
        return demo

    @property
    def command(self) -> str:
        """The command that shows the piece."""
        return f"python -m experiments.demo {self.name}{' --plot' if self.picture else ''}"


@cache
def pieces() -> dict[str, Piece]:
    """Return every piece by name, in the order of the list."""
    found: dict[str, Piece] = {}
    for file in TOPICS:
        tree = ast.parse(Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8"))
        topic = (ast.get_docstring(tree) or "").partition("\n")[0].removesuffix(".")
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                does, fields = _fields(ast.get_docstring(node) or "")
                found[node.name] = Piece(name=node.name, topic=topic, file=file, does=does, **fields)
    return found


def _fields(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its first line and its fields; a field may go on in the next lines."""
    does, _, rest = docstring.partition("\n")
    fields: dict[str, str] = {}
    for line in rest.strip().splitlines():
        name, colon, text = line.partition(": ")
        if colon and name.lower() in FIELDS:
            fields[name.lower()] = text
        else:
            fields[list(fields)[-1]] += f" {line.strip()}"
    return does.removesuffix("."), fields


def listing() -> str:
    """List the pieces by topic, one line each."""
    width = max(map(len, pieces())) + 2
    lines: list[str] = []
    for topic in dict.fromkeys(piece.topic for piece in pieces().values()):
        lines += ["", topic]
        lines += [f"  {p.name:<{width}}{p.does}" for p in pieces().values() if p.topic == topic]
    return "\n".join(lines[1:])
