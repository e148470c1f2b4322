"""Check that data has the vocabulary that weights were trained with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError


def check_vocabulary(saved: Mapping[str, Any], info: Any, path: Path) -> None:
    """Check that the data has the vocabulary that a checkpoint was trained with.

    Equal sizes are not enough: id 7 would be another letter. Weights or data without tokens always pass.

    Raises:
        UserError: The vocabularies differ.
    """
    for kind in ("source_vocabulary", "target_vocabulary"):
        before, now = list(saved["info"].get(kind) or ()), list(getattr(info, kind, ()))
        if before and now and before != now:
            raise UserError(
                f"the data's {kind} ({len(now)} tokens) differs from that of {path} ({len(before)} tokens); "
                "use the data that it was trained with"
            )
    old, new = saved["info"].get("tokenizer"), getattr(info, "tokenizer", None)
    if not old or not new or _tokens_of(old) == _tokens_of(new):
        return
    sizes = f"{info.vocab_size} and {saved['info'].get('vocab_size')} tokens"
    if old.get("kind") != new.get("kind"):
        sizes = f"kinds {new.get('kind')} and {old.get('kind')}"
    elif saved["info"].get("vocab_size") == info.vocab_size:
        sizes = f"{info.vocab_size} tokens each, but different ones"
    raise UserError(
        f"the data's vocabulary differs from that of {path} ({sizes}); use the text and data.tokenizer "
        "that it was trained with"
    )


def _tokens_of(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide the ids of the tokens: all but the implementation."""
    return {key: value for key, value in tokenizer.items() if key != "implementation"}
