"""The language model: predicts each next token of a text."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.info import TextInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.functional.precision import widen
from lit_modules.metrics.token_metrics import IGNORED, text_metrics
from lit_modules.networks.transformer_lm import TransformerLM

Batch = tuple[Tensor, ...]


class LanguageModel(LitModule):
    """A transformer from tokens (B, T) to logits (B, T, V), trained to predict each next token.

    A batch is (tokens, targets), int64 (B, T) each; targets of −100 are ignored. A third tensor numbers the
    documents of a row, which do not see each other. Evaluation logs the loss in
    nats per token, the perplexity and, if the bytes per token are known, the bits per byte.

    A subclass uses its own network by overriding `build_network`.

    Raises:
        ValueError: The settings of the network do not fit together.
    """

    dashboard: str | None = "language"
    info_type = TextInfo
    data_names: tuple[str, ...] = ("shakespeare", "tiny_shakespeare", "text", "chat")

    config: LanguageModelConfig
    info: TextInfo

    def __init__(self, config: LanguageModelConfig, info: TextInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        self.check_data(info)
        self.network = self.build_network(config, info)
        self.example_input_array = torch.zeros(1, info.train_length, dtype=torch.long)

    def check_data(self, info: TextInfo) -> None:
        """Refuse data that the model can't read. The constructor calls it once.

        Raises:
            ValueError: The data is prompts with one answer each.
        """
        if info.answer_length:
            raise ValueError("language_model can't read prompts with answers; choose the model answer_model")

    def build_network(self, config: LanguageModelConfig, info: TextInfo) -> nn.Module:
        """Build the network from tokens (B, T) to logits (B, T, V). The constructor calls it once."""
        return TransformerLM(config, vocab_size=info.vocab_size, context_length=info.context_length)

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add perplexity and bits per byte."""
        return {**super().build_metrics(stage), **text_metrics(self.info, stage)}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the objective over the targets that are not ignored."""
        tokens, targets, *documents = batch
        logits = self.network(tokens, **_apart(*documents))  # (B, T, V)
        # The objective's fp32 copy of the logits is freed with the loss; the returned ones keep their dtype.
        return {"loss": self.objective(logits, targets), "logits": logits.detach(), "targets": targets}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return the losses of the targets that are not ignored, logits (B, T, V) and targets (B, T)."""
        tokens, targets, *documents = batch
        logits = self.network(tokens, **_apart(*documents))
        losses = F.cross_entropy(
            widen(logits).flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED
        )  # (B · T,)
        counted = losses[targets.flatten() != IGNORED]
        return {"losses": counted, "logits": logits, "targets": targets}


def _apart(documents: Tensor | None = None) -> dict[str, Tensor]:
    """Return the arguments of the network that hold the documents of a row apart, if there are several.

    Args:
        documents: Number of the document of each token (B, T); the tokens of a document are neighbours.
    """
    if documents is None:
        return {}
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    is_first = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0))  # (B, T)
    starts = (places * is_first).cummax(dim=1).values
    mask = documents[:, None, :, None] == documents[:, None, None, :]  # (B, 1, T, T)
    return {"positions": places - starts, "mask": mask}
