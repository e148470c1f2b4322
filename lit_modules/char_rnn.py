"""The character RNN: labels each character of a sequence, or predicts the next character of a text."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from datamodules.info import SequenceLabellingInfo, TextInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.char_rnn import CharRNNConfig
from lit_modules.functional.precision import widen
from lit_modules.layers.recurrent_cells import State
from lit_modules.metrics.token_metrics import IGNORED, SequenceAccuracy, TokenAccuracy, text_metrics
from lit_modules.networks.recurrent_lm import RecurrentLM

Batch = tuple[Tensor, Tensor]


class CharRNN(LitModule):
    """A recurrent network from tokens (B, T) to logits (B, T, V), trained by cross-entropy at each position.

    With `carry_state`, each batch starts from the final state of the previous batch: the network reads the
    rows of successive batches as B long texts, but gradients stop at the start of the batch (truncated
    back-propagation through time, Williams & Peng 1990). Every epoch, validation and test starts from zeros.
    A checkpoint contains the state of the training.

    Targets of −100 are ignored. Evaluation logs the loss in nats per token. For a text it also logs
    `perplexity` and `bits_per_byte`; for labelled sequences `accuracy`, the share of correct tokens, and
    `success`, the share of sequences without a mistake.

    Raises:
        ValueError: The data is conversations, or prompts with answers; `carry_state` is set, but the batches
            of the data do not continue each other; or there is no read-out and `hidden` differs from the size
            of the vocabulary.
    """

    info_type = TextInfo | SequenceLabellingInfo
    data_names = ("hello", "shakespeare", "tiny_shakespeare", "text")

    config: CharRNNConfig
    info: TextInfo | SequenceLabellingInfo
    network: RecurrentLM

    def __init__(
        self, config: CharRNNConfig, info: TextInfo | SequenceLabellingInfo, **training: Any
    ) -> None:
        super().__init__(config, info, **training)
        if isinstance(info, TextInfo) and info.chat_template:
            raise ValueError("char_rnn can't learn conversations; choose the model language_model")
        if isinstance(info, TextInfo) and info.answer_length:
            raise ValueError("char_rnn can't read prompts with answers; choose the model answer_model")
        if config.carry_state and not (isinstance(info, TextInfo) and info.continuous):
            raise ValueError(
                "carry_state: true needs batches that continue each other; set data.sampling to sequential, "
                "or carry_state to false"
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
            loop=config.loop,
            implementation=config.implementation,
        )
        length = info.train_length if isinstance(info, TextInfo) else info.context_length
        self.example_input_array = torch.zeros(1, length, dtype=torch.long)
        self.dashboard = "language" if isinstance(info, TextInfo) else None
        self._carried: dict[str, State] = {}
        self._answer = ""

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add the metrics of a text or of labelled sequences."""
        if isinstance(self.info, TextInfo):
            return {**super().build_metrics(stage), **text_metrics(self.info, stage)}
        return {**super().build_metrics(stage), "accuracy": TokenAccuracy(), "success": SequenceAccuracy()}

    @property
    def steps_are_alike(self) -> bool:  # type: ignore[override]
        """Whether no state is carried from batch to batch."""
        return not self.config.carry_state

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the objective over the targets that are not ignored."""
        tokens, targets = batch
        logits = self._read(tokens, "train", batch_idx)
        return {"loss": self.objective(logits, targets), "logits": logits.detach(), "targets": targets}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return the losses of the targets that are not ignored, logits (B, T, V) and targets (B, T)."""
        tokens, targets = batch
        logits = self._read(tokens, stage, batch_idx)
        losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED)
        if isinstance(self.info, SequenceLabellingInfo):
            self._answer = "".join(self.info.class_names[i] for i in logits[0].argmax(-1).tolist())
        return {"losses": losses[targets != IGNORED], "logits": logits, "targets": targets}

    def progress_note(self) -> str:
        """Return the predicted labels of the first sequence in the last evaluated batch."""
        return f"predicted {self._answer}" if self._answer else ""

    # ---------------------------------------------------------------------------------------- carried state

    def _read(self, tokens: Tensor, stage: str, batch_idx: int) -> Tensor:
        """Return logits (B, T, V), at least fp32, from the carried state or from zeros."""
        cache = self.network.make_cache()
        if self.config.carry_state and batch_idx > 0:
            cache[0].state = tuple(part.to(tokens.device) for part in self._carried[stage])
        logits = self.network(tokens, cache=cache)
        if self.config.carry_state and cache[0].state is not None:
            self._carried[stage] = tuple(part.detach() for part in cache[0].state)
        return widen(logits)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the carried training state, each part (ranks, L, B, H), because ranks read other rows."""
        if "train" in self._carried:
            state = self._carried["train"]
            gathered: Any = self.all_gather(state)  # a single process gets its own state back unchanged
            checkpoint["carried_state"] = [
                parts.reshape(-1, *own.shape) for parts, own in zip(gathered, state, strict=True)
            ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the carried state; a new epoch, which other ranks may start, does not use it."""
        if "carried_state" in checkpoint:
            parts = checkpoint["carried_state"]
            self._carried["train"] = tuple(part[min(self.global_rank, len(part) - 1)] for part in parts)
