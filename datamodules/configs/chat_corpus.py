"""Settings of conversations; importing this file does not import torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.configs.split import check_fractions
from datamodules.configs.token_corpus import TokenizerConfig
from datamodules.setting import setting

CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")


@dataclass(kw_only=True)
class ChatConfig:
    """Conversations in a JSONL file; only the assistant's tokens are learned.

    Each line is one conversation: {"messages": [{"role": "user", "content": "Hi"}, …]}. The roles are system,
    user and assistant. Each line may name its "split": train, validation or test. Without splits, the
    conversations are split in order: training, validation, test.
    """

    NO_FOLDS: ClassVar[str] = "its file names the splits, or their order in the file gives them"

    path: str | None = setting(None, "A UTF-8 file with one JSON object per line.", is_path=True)
    from_stage: str | None = setting(None, "Earlier stage of the chain that writes the file.")
    template: (
        Literal["smollm2", "chatml", "qwen2", "qwen2.5", "qwen3", "llama3", "llama3.1", "mistral"] | None
    ) = setting(
        None,
        "Format of a conversation; null: that of model.init_from, and chatml for a new model. smollm2, qwen2 "
        "and qwen2.5 are ChatML with the system message of the model in a conversation without one.",
    )
    context_length: int = setting(
        512, "Number of tokens in a row; the rest of a longer conversation is cut off.", min=2, max=1 << 22
    )
    packed: bool = setting(
        True,
        "Whether a row holds several conversations instead of padding. Each token sees only its own "
        "conversation, so the loss stays the same; training takes less time.",
    )
    batch_size: int = setting(8, "Training rows per step and device.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        8, "Largest validation or test batch, per device.", min=1, evaluation="free", max=1 << 20
    )
    val_fraction: float = setting(
        0.1, "Fraction of a file without splits for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.1, "Fraction of a file without splits for the test.", above=0, below=1, evaluation="same"
    )
    tokenizer: TokenizerConfig = setting(
        help="Tokenizer of a new model; with model.init_from, the initial weights have their own.",
        default_factory=lambda: TokenizerConfig(kind="bpe", special_tokens=list(CHAT_TOKENS)),
    )

    def __post_init__(self) -> None:
        if (self.path is None) == (self.from_stage is None):
            raise ValueError(f"path: {self.path} and from_stage: {self.from_stage}; set one of them")
        check_fractions(self.val_fraction, self.test_fraction)
