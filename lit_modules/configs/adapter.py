"""Schema of adapters: a few trained weights are added to frozen ones. Importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class LoRAConfig:
    """Low-rank updates of linear layers, y = W x + s · B A dropout(x); all other weights stay frozen.

    Source: Hu et al. 2022, "LoRA: low-rank adaptation of large language models".
    """

    rank: int = setting(
        8, "Rank r of each update; the number of trained weights grows with it.", min=1, max=1 << 16
    )
    alpha: float = setting(16.0, "Strength of the updates: s = alpha / rank.", above=0.0, max=1e6)
    rank_stabilized: bool = setting(False, "Use s = alpha / √rank. A larger rank then needs no larger alpha.")
    dropout: float = setting(
        0.0, "Probability of dropping an input of an update in training.", min=0.0, below=1.0
    )
    targets: list[str] = setting(
        ["query", "value"],
        "Linear layers with an update, by the end of their names: query, key, value, output, gate, up, down, "
        "head, or a longer end such as layers.0.attention.query.",
    )
    base_sha256: str | None = setting(
        None,
        "sha256 of the frozen weights; the run sets it, and later refuses other weights.",
        resume="free",
    )

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets: name at least one linear layer, such as query")
