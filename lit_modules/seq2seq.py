"""The sequence-to-sequence model: reads a sequence and writes another, such as phonemes for letters."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from datamodules.info import SequencePairInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.seq2seq import Seq2SeqConfig
from lit_modules.functional.precision import widen
from lit_modules.generation.beam_search import Hypotheses, beam_search, greedy_search
from lit_modules.generation.special_tokens import BOS, PAD
from lit_modules.generation.two_way_search import reverse_targets, two_way_search
from lit_modules.metrics.error_rates import error_rates
from lit_modules.metrics.token_metrics import IGNORED
from lit_modules.networks.encoder_decoder import EncoderDecoder

TrainingBatch = tuple[Tensor, Tensor]
Batch = tuple[Tensor, Tensor, Tensor]


class Seq2Seq(LitModule):
    """An encoder–decoder transformer, trained to predict each next token of the target.

    A training batch is (source, target), int64 (B, S) and (B, T + 1), padded at the end. A target starts
    with BOS and ends with EOS. The decoder sees the true tokens before the one it predicts (teacher forcing).
    The loss is the mean over all tokens that are not padding, so a long target counts for more.

    A validation or test batch has a third tensor, the alternatives, int64 (B, A, T + 1): all correct
    targets, the target itself first, then rows of padding. The network writes a target without help,
    greedily in validation and by beam search in the test, and the error rates compare it with the
    alternatives. The loss in nats per token, without label smoothing, is logged too.

    With `directions: both`, every second target of a training batch is reversed (EOS first, BOS last), so
    that one network learns to write from either end. Validation writes forward; the test searches from both
    ends.

    Raises:
        ValueError: Two different vocabularies would share their embeddings, or the settings of the network
            do not fit together.
    """

    dashboard = "seq2seq"
    info_type = SequencePairInfo
    data_names = ("digit_sequences", "pronunciation", "pairs")

    config: Seq2SeqConfig
    info: SequencePairInfo
    network: EncoderDecoder

    def __init__(self, config: Seq2SeqConfig, info: SequencePairInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        if config.share_embeddings and info.source_vocabulary != info.target_vocabulary:
            raise ValueError(
                "share_embeddings: true needs one vocabulary for source and target, but this data has two; "
                "set it to false"
            )
        self.network = EncoderDecoder(
            config,
            source_vocab_size=len(info.source_vocabulary),
            target_vocab_size=len(info.target_vocabulary),
            source_length=info.source_length,
            target_length=info.target_length,
            padding=PAD,
        )
        self.example_input_array = (
            torch.full((1, info.source_length), BOS),
            torch.full((1, info.target_length - 1), BOS),
        )

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add the error rates."""
        return {**super().build_metrics(stage), **error_rates(self.info)}

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return the objective over the tokens that are not padding."""
        source, target = batch
        if self.config.directions == "both":
            odd = torch.arange(len(target), device=target.device).unsqueeze(-1) % 2 == 1
            target = torch.where(odd, reverse_targets(target), target)
        logits, labels = self.network(source, target[:, :-1]), target[:, 1:]  # (B, T, V), (B, T)
        loss = self.objective(logits, labels.masked_fill(labels == PAD, IGNORED))
        return {"loss": loss, "logits": logits.detach(), "targets": labels}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return losses without padding, logits (B, T, V), targets (B, T), and the written sequences."""
        source, target, alternatives = batch
        if stage == "val":
            written = greedy_search(self.network, source, max_length=self.max_length)
        else:
            written = self.write(source)
        logits, labels = self.network(source, target[:, :-1]), target[:, 1:]
        losses = F.cross_entropy(
            widen(logits).flatten(0, 1), labels.flatten(), reduction="none", ignore_index=PAD
        )  # (B · T,)
        counted = losses[labels.flatten() != PAD]
        return {
            "losses": counted,
            "logits": logits,
            "targets": labels,
            "written": written,
            "alternatives": alternatives,
        }

    def metric_inputs(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the written sequences and their alternatives."""
        return outputs["written"], outputs["alternatives"]

    @property
    def max_length(self) -> int:
        """Largest number of tokens to write, EOS included: the length of the longest target in the data."""
        return self.info.target_length - 1

    def write(self, source: Tensor) -> Tensor:
        """Return the best target (B, T) of each source (B, S), without BOS, by the search of the config."""
        return self.search(source, beam_size=self.config.beam_size).tokens[:, 0]

    def search(self, source: Tensor, *, beam_size: int, n_best: int = 1) -> Hypotheses:
        """Find the best targets of each source by a beam search, or by one from each end.

        Args:
            source: (B, S), padded at the end.
            beam_size: Number of hypotheses that each search keeps.
            n_best: Number of hypotheses to return.

        Raises:
            ValueError: See `beam_search`.
        """
        search = two_way_search if self.config.directions == "both" else beam_search
        return search(
            self.network,
            source,
            beam_size=beam_size,
            max_length=self.max_length,
            length_penalty=self.config.length_penalty,
            n_best=n_best,
        )
