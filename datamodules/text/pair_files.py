"""Read pairs of a source and a target text from a TSV or JSONL file."""

import json
import unicodedata
from pathlib import Path

from datamodules.assets.ordinary_files import check_ordinary

_JSON = (".jsonl", ".ndjson", ".json")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read pairs, without spaces at the ends; a letter and its accent become one character (NFC).

    A file with the suffix `.jsonl`, `.ndjson` or `.json` has a JSON object with the texts `source` and
    `target` on each line. In any other file, a line is a source, a tab and a target. A first line with just
    these two words is a header. Empty lines are left out.

    Raises:
        ValueError: The file is missing or not UTF-8, or a line is malformed; names the line.
    """
    check_ordinary(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    read = _json_pair if path.suffix.lower() in _JSON else _tsv_pair
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        pair = read(line, f"{path}, line {number}")
        if pair == ("source", "target") and not pairs:
            continue
        source, target = (unicodedata.normalize("NFC", part.strip()) for part in pair)
        if not source or not target:
            raise ValueError(f"{path}, line {number}: the {'target' if source else 'source'} is empty")
        pairs.append((source, target))
    if not pairs:
        raise ValueError(f"{path} has no pairs")
    return pairs


def _tsv_pair(line: str, place: str) -> tuple[str, str]:
    cells = line.rstrip("\r").split("\t")
    if len(cells) != 2:
        raise ValueError(f"{place} has {len(cells)} cells; expected a source, a tab and a target")
    return cells[0], cells[1]


def _json_pair(line: str, place: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{place}: expected an object with source and target")
    if not record.keys() >= {"source", "target"}:
        raise ValueError(f"{place}: expected the texts source and target; it has {', '.join(record)[:100]}")
    source, target = record["source"], record["target"]
    if not isinstance(source, str) or not isinstance(target, str):
        raise ValueError(f"{place}: source and target must be texts")
    return source, target
