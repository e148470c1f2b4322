"""Parse the YAML of a config file or of an override, within limits that keep every answer fast."""

import re
from collections.abc import Callable
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config.messages import cut
from experiments.errors import UserError

MAX_BYTES = 200_000
"""Largest size of a config file. The published ones have about 2,000 bytes."""
MAX_VALUES = 10_000
"""Largest number of keys and values in a file; an alias counts as all that it stands for."""
MAX_DEPTH = 20
"""Largest number of sections within sections."""
LONGEST_KEY = 100

# YAML 1.1 reads these words and numbers in surprising ways: no → false, 010 → 8, 1:30 → 90.
SURPRISING = re.compile(r"(?i:yes|no|on|off|y|n)|[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?")
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")}
_LONGEST_NUMBER = 100
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_file(text: str, label: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Parse the text of a config file into its values, and the line of each dotted path.

    Raises:
        UserError: The text is not YAML or exceeds a limit, has a duplicate key, or has a value that YAML
            would misread. The message starts with `label` and the line.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise UserError(f"{label}: larger than {MAX_BYTES} bytes, the limit of a config file")
    walk = _Walk(lambda node: f"{label}:{node.start_mark.line + 1}")
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{label}:1: a config is a mapping of keys to values")
        walk.visit(node, "")
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        return cast(dict[str, Any], values), walk.lines
    except UserError:
        raise
    except _TooDeep:
        raise UserError(
            f"{label}: an anchor's value contains itself, or the nesting is deeper than {MAX_DEPTH} levels"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{label}{where}: not valid YAML: {cut(error.problem or error.context)}") from None
    except _NOT_YAML as error:
        reason = cut(str(error).partition("\n")[0]) or type(error).__name__
        raise UserError(f"{label}: not valid YAML: {reason}") from None


def parse_value(text: str, key: str) -> Any:
    """Parse the value of an override, and check that YAML reads it as it was typed.

    Raises:
        UserError: The value is not YAML, exceeds a limit, or YAML would drop or misread a part of it.
    """
    place = "the command line"
    wrong = UserError(f"the value of {key} is not valid YAML: {cut(repr(text))}")
    if len(text) > MAX_BYTES:
        raise UserError(f"the value of {key} is longer than {MAX_BYTES} characters")
    walk = _Walk(lambda node: place)
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:  # no value, or a comment
            if text.strip():
                raise _dropped(key, text)
            return None
        walk.visit(node, key)
        # Unlike YAML 1.1, OmegaConf reads 1e-3 as a number and a date as text.
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
    except UserError:
        raise
    except (_TooDeep, *_NOT_YAML):
        raise wrong from None
    rest = text[node.end_mark.index :]
    is_plain = isinstance(node, yaml.ScalarNode) and not node.style
    if (is_plain and node.value != text) or rest.strip() or text == "~":
        raise _dropped(key, text)
    return cast(dict[str, Any], value)["value"]


def _dropped(key: str, text: str) -> UserError:
    return UserError(
        f"{key}={cut(text)}: YAML does not read this value as it looks (# starts a comment, & an anchor, "
        f"~ is null); put it in quotes, such as \"{key}='…'\""
    )


def check_key(key: object, place: str) -> str:
    """Return a key as text.

    Raises:
        UserError: It is long, or has characters that a terminal does not show.
    """
    text = key if isinstance(key, str) else repr(key)
    if not text.isprintable() or len(text) > LONGEST_KEY:
        raise UserError(
            f"{place}: key {cut(repr(text))}: a key has at most {LONGEST_KEY} printable characters"
        )
    return text


class _TooDeep(Exception):
    """The nesting exceeds the limit."""


# Constructors of PyYAML fail in many ways, such as on !!float x and !!bool x.
_NOT_YAML = (
    yaml.YAMLError,
    OmegaConfBaseException,
    RecursionError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def _check_depth(text: str) -> None:
    """Check the nesting of a text, which a parser by recursion could not read, without recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _TooDeep
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Walk:
    """A walk over the nodes of a text that records the line of each key.

    Args:
        where: Returns the place of a node for messages.
    """

    def __init__(self, where: Callable[[yaml.Node], str]) -> None:
        self.lines: dict[str, int] = {}
        self._where = where
        self._visited = 0

    def visit(self, node: yaml.Node, path: str, depth: int = 0, *, merged: bool = False) -> None:
        """Visit a node and the nodes in it; aliases are followed.

        A merged mapping is the value of a `<<`; its keys may be set again.
        """
        self._visited += 1 + isinstance(node, yaml.MappingNode) * len(node.value)
        if self._visited > MAX_VALUES:
            raise UserError(
                f"{self._where(node)}: more than {MAX_VALUES} keys and values; aliases count in full"
            )
        if depth > MAX_DEPTH:
            raise _TooDeep
        if node.tag not in _TAGS:
            raise UserError(
                f"{self._where(node)}: {path}: not valid YAML: the tag {cut(node.tag)} is not allowed"
            )
        if isinstance(node, yaml.MappingNode):
            merges = []
            for key_node, value_node in node.value:
                if key_node.tag == f"{_TAG}merge":
                    merges.append(value_node)
                    continue
                if not isinstance(key_node, yaml.ScalarNode):
                    raise UserError(f"{self._where(key_node)}: a key must be a word")
                key = check_key(key_node.value, self._where(key_node))
                child = f"{path}.{key}" if path else key
                if child in self.lines and not merged:
                    place = self._where(key_node)
                    first = f", first set in line {self.lines[child]}" if ":" in place else ""
                    raise UserError(f"{place}: duplicate key {child}{first}")
                self.lines.setdefault(child, key_node.start_mark.line + 1)
                self.visit(value_node, child, depth + 1, merged=merged)
            for value_node in merges:
                several = isinstance(value_node, yaml.SequenceNode)
                for mapping in value_node.value if several else [value_node]:
                    if not isinstance(mapping, yaml.MappingNode):
                        raise UserError(f"{self._where(mapping)}: {path}: << must name a mapping")
                    self.visit(mapping, path, depth + 1, merged=True)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, f"{path}[{index}]", depth + 1, merged=merged)
        elif not node.style and SURPRISING.fullmatch(node.value):
            raise UserError(
                f"{self._where(node)}: {path}: YAML does not read {cut(node.value)} as it looks; write true "
                "or false, a number without leading zeros, or a quoted string"
            )
        elif node.tag == f"{_TAG}int" and len(node.value) > _LONGEST_NUMBER:
            raise UserError(
                f"{self._where(node)}: {path}: {cut(node.value)} is longer than {_LONGEST_NUMBER} digits"
            )
