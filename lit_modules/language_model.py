"""The language model: guesses each next token of a text."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.info import TextInfo
from lit_modules.base import LitModule
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.metrics.token_metrics import BitsPerByte, Perplexity, TokenLoss
from lit_modules.networks.build_transformer_lm import build_transformer_lm

Batch = tuple[Tensor, Tensor]

IGNORED = -100
"""The target of a token that nobody is to guess: padding, a prompt."""


class LanguageModel(LitModule):
    """A transformer from tokens (B, T) to logits (B, T, V), trained by cross-entropy on the token after each.

    A batch is (tokens, targets), int64 (B, T) each; targets of −100 don't count. Evaluation logs the loss in
    nats a token, the perplexity and, where the length of tokens is known, the bits per byte of text, each
    over all tokens of the epoch.

    A subclass brings its own network by overriding `build_network`.

    Args:
        config: Architecture and initialisation.
        info: The text's description.
        optimizer: See `LitModule`.
        schedule: See `LitModule`.

    Raises:
        ValueError: The data is no text, or the architecture's values don't fit together.
    """

    dashboard = "language"
    info_type = TextInfo
    data_names = ("shakespeare", "tiny_shakespeare", "text")

    config: LanguageModelConfig
    info: TextInfo

    def __init__(
        self, config: LanguageModelConfig, info: TextInfo, *, optimizer: Any = None, schedule: Any = None
    ) -> None:
        super().__init__(config, info, optimizer=optimizer, schedule=schedule)
        self.network = self.build_network(config, info)
        self.example_input_array = torch.zeros(1, info.context_length, dtype=torch.long)
        self.val_metrics = _metrics(info.bytes_per_token)
        self.test_metrics = _metrics(info.test_bytes_per_token)

    def build_network(self, config: LanguageModelConfig, info: TextInfo) -> nn.Module:
        """Make the network, from tokens (B, T) to logits (B, T, V); called once, by the constructor."""
        return build_transformer_lm(config, vocab_size=info.vocab_size, context_length=info.context_length)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of tokens (B, T)."""
        return self.network(tokens)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy over the tokens that count; a callback records the curve."""
        tokens, targets = batch
        logits = self.network(tokens)  # (B, T, V)
        # The copy in fp32 lives as long as the loss; what is returned stays in the network's own precision.
        loss = F.cross_entropy(
            _at_least_float32(logits).flatten(0, 1), targets.flatten(), ignore_index=IGNORED
        )
        return {"loss": loss, "logits": logits.detach(), "targets": targets}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch's tokens, added to the epoch's."""
        return self._evaluate(batch, "val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch's tokens, added to the epoch's."""
        return self._evaluate(batch, "test", self.test_metrics)

    def _evaluate(self, batch: Batch, stage: str, metrics: nn.ModuleDict) -> dict[str, Tensor]:
        tokens, targets = batch
        logits = self.network(tokens)
        losses = F.cross_entropy(
            _at_least_float32(logits).flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED
        )  # (B · T,)
        counted = losses[targets.flatten() != IGNORED]
        for name, metric in metrics.items():
            assert isinstance(metric, TokenLoss)
            metric.update(counted)
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
        return {"loss": counted.mean(), "logits": logits, "targets": targets}


def _metrics(bytes_per_token: float) -> nn.ModuleDict:
    metrics = {"loss": TokenLoss(), "perplexity": Perplexity()}
    return nn.ModuleDict(
        metrics | ({"bits_per_byte": BitsPerByte(bytes_per_token)} if bytes_per_token else {})
    )


def _at_least_float32(logits: Tensor) -> Tensor:
    """Lift logits of half precision, whose log-softmax would be too coarse."""
    return logits.float() if logits.dtype.itemsize < 4 else logits
