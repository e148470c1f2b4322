"""Schema of your own pairs of texts; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.split import OwnFilesConfig
from datamodules.setting import setting

Tokens = Literal["characters", "words"]


@dataclass(kw_only=True)
class PairsConfig(OwnFilesConfig):
    """Your own pairs of a source text and a target text, for a sequence-to-sequence model.

    A TSV file has a source, a tab and a target on each line. A JSONL file has an object with the texts
    `source` and `target` on each line. A source may have several right targets, on lines of their own; all
    of them are in the same split.
    """

    path: str = setting(help="TSV or JSONL file of the training pairs.", is_path=True)
    split_seed: int = setting(
        0, "Seed of the split, independent of the run's seed.", min=0, evaluation="same"
    )
    source_tokens: Tokens = setting("characters", "Tokens of a source: characters, or words between spaces.")
    target_tokens: Tokens = setting("characters", "Tokens of a target: characters, or words between spaces.")
    max_tokens: int = setting(
        256, "Longest text in tokens; longer pairs are left out.", min=1, max=1 << 16, evaluation="same"
    )
    batch_size: int = setting(64, "Largest training batch per device, in pairs.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        256, "Largest validation or test batch per device, in sources.", min=1, evaluation="free", max=1 << 20
    )
