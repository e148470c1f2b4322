"""Check that data and a checkpoint have the same vocabulary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError


def check_vocabulary(saved: Mapping[str, Any], info: Any, path: Path) -> None:
    """Check that the data has the same vocabulary as a checkpoint.

    Equal sizes are not enough, because the same id could be another token. If one of the two has no tokens,
    the check passes.

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
    """Return all settings but the implementation, which does not change the ids of tokens."""
    return {key: value for key, value in tokenizer.items() if key != "implementation"}
