"""The character RNN: answers each character of a sequence, or guesses the next one of a long text."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from datamodules.info import SequenceLabellingInfo, TextInfo
from lit_modules.base import LitModule
from lit_modules.configs.char_rnn import CharRNNConfig
from lit_modules.layers.recurrent import State
from lit_modules.metrics.token_metrics import BitsPerByte, Perplexity, TokenLoss
from lit_modules.networks.recurrent_lm import RecurrentLM

Batch = tuple[Tensor, Tensor]

IGNORED = -100
"""The target of a position where there is nothing to answer."""


class CharRNN(LitModule):
    """A recurrent network from tokens (B, T) to logits (B, T, V), trained by cross-entropy at each position.

    With `carry_state` a batch begins with the state that the one before it ended with: the network reads
    the rows of successive batches as B long texts, while gradients reach back to the batch's start alone
    (truncated back-propagation through time, Williams & Peng 1990). Each epoch, validation and test begins
    with zeros. The training state is part of a checkpoint.

    Targets of −100 don't count. Evaluation logs the loss in nats a token; of a text also `perplexity` and
    `bits_per_byte`, of other data `accuracy`, the share of right tokens, and `success`, the share of
    sequences without a mistake.

    Args:
        config: The network and how it is trained.
        info: The data's description.
        optimizer: See `LitModule`.
        schedule: See `LitModule`.

    Raises:
        ValueError: The data has no tokens; its batches don't go on from each other and the state is to be
            carried; there is no read-out, and `hidden` is not the size of the vocabulary.
    """

    info_type = TextInfo | SequenceLabellingInfo
    data_names = ("hello", "shakespeare", "tiny_shakespeare", "text")

    config: CharRNNConfig
    info: TextInfo | SequenceLabellingInfo

    def __init__(
        self,
        config: CharRNNConfig,
        info: TextInfo | SequenceLabellingInfo,
        *,
        optimizer: Any = None,
        schedule: Any = None,
    ) -> None:
        super().__init__(config, info, optimizer=optimizer, schedule=schedule)
        if config.carry_state and not (isinstance(info, TextInfo) and info.continuous):
            raise ValueError(
                "carry_state: true needs batches that go on where the last ones ended; set data.sampling to "
                "sequential, or carry_state to false"
            )
        if not config.read_out and config.hidden != info.vocab_size:
            raise ValueError(
                f"hidden: {config.hidden} with read_out false makes the state the logits of "
                f"{info.vocab_size} characters; set hidden to {info.vocab_size}, or read_out to true"
            )
        self.network = RecurrentLM(
            vocab_size=info.vocab_size,
            hidden_size=config.hidden,
            cell=config.cell,
            num_layers=config.num_layers,
            embedding_size=config.embedding if config.input == "embedding" else None,
            read_out=config.read_out,
            dropout=config.dropout,
            loop=config.implementation == "cell_loop",
            implementation=config.kernel,
        )
        self.example_input_array = torch.zeros(1, info.context_length, dtype=torch.long)
        val_bytes, test_bytes = (
            (info.bytes_per_token, info.test_bytes_per_token) if isinstance(info, TextInfo) else (0.0, 0.0)
        )
        self.dashboard = "language" if val_bytes else None
        self.val_metrics, self.test_metrics = _metrics(val_bytes), _metrics(test_bytes)
        self._carried: dict[str, State] = {}
        self._answer: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of tokens (B, T), read from a state of zeros."""
        return self.network(tokens)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy over the positions that count; a callback records the curve."""
        tokens, targets = batch
        logits = self._read(tokens, "train", batch_idx)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        return {"loss": loss, "logits": logits.detach(), "targets": targets}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """What is logged of one batch, added to the epoch's."""
        return self._evaluate(batch, batch_idx, "val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """What is logged of one batch, added to the epoch's."""
        return self._evaluate(batch, batch_idx, "test", self.test_metrics)

    def progress_note(self) -> str:
        """The first sequence of the last validation batch as it was answered."""
        if self._answer is None or isinstance(self.info, TextInfo):
            return ""
        return "predicted " + "".join(self.info.class_names[index] for index in self._answer.tolist())

    # ---------------------------------------------------------------------------------------- carried state

    def _read(self, tokens: Tensor, stage: str, batch_idx: int) -> Tensor:
        """Logits (B, T, V) of at least fp32, read on from the batch before where the state is carried."""
        cache = self.network.make_cache()
        if self.config.carry_state and batch_idx > 0:
            cache[0].state = tuple(part.to(tokens.device) for part in self._carried[stage])
        logits = self.network(tokens, cache=cache)
        if self.config.carry_state and cache[0].state is not None:
            self._carried[stage] = tuple(part.detach() for part in cache[0].state)
        return logits.float() if logits.dtype.itemsize < 4 else logits

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state that training goes on from, each part (ranks, L, B, H): ranks read other rows."""
        if "train" in self._carried:
            state = self._carried["train"]
            gathered: Any = self.all_gather(state)  # a single process gets its own back as it is
            checkpoint["carried_state"] = [
                parts.reshape(-1, *own.shape) for parts, own in zip(gathered, state, strict=True)
            ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take that state up; at an epoch's start, where ranks may have come or gone, it isn't used."""
        if "carried_state" in checkpoint:
            parts = checkpoint["carried_state"]
            self._carried["train"] = tuple(part[min(self.global_rank, len(part) - 1)] for part in parts)

    # ------------------------------------------------------------------------------------------- evaluation

    def _evaluate(
        self, batch: Batch, batch_idx: int, stage: str, metrics: nn.ModuleDict
    ) -> dict[str, Tensor]:
        tokens, targets = batch
        logits = self._read(tokens, stage, batch_idx)
        losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED)
        counts = targets != IGNORED  # (B, T)
        counted = losses[counts]
        right = logits.argmax(-1) == targets
        values = {"accuracy": right[counts].float(), "success": (right | ~counts).all(1).float()}
        for name, metric in metrics.items():
            assert isinstance(metric, MeanMetric)
            metric.update(values.get(name, counted))
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
        if isinstance(self.info, SequenceLabellingInfo):
            self._answer = logits[0].argmax(-1)
        return {"loss": counted.mean(), "logits": logits, "targets": targets}


def _metrics(bytes_per_token: float) -> nn.ModuleDict:
    """Those of a text, or of sequences to be answered."""
    if bytes_per_token:
        of_a_text = {"perplexity": Perplexity(), "bits_per_byte": BitsPerByte(bytes_per_token)}
        return nn.ModuleDict({"loss": TokenLoss(), **of_a_text})
    return nn.ModuleDict({"loss": TokenLoss(), "accuracy": MeanMetric(), "success": MeanMetric()})
