"""Sequence to sequence: reads one sequence and writes another, such as a word's letters and its phonemes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.info import SequencePairInfo
from lit_modules.base import LitModule
from lit_modules.configs.seq2seq import Seq2SeqConfig
from lit_modules.functional.precision import widen
from lit_modules.generation.beam_search import Hypotheses, beam_search, greedy_search
from lit_modules.generation.special_tokens import BOS, PAD
from lit_modules.generation.two_way_search import reverse_targets, two_way_search
from lit_modules.metrics.error_rates import error_rates
from lit_modules.metrics.token_metrics import TokenLoss
from lit_modules.networks.encoder_decoder import EncoderDecoder
from lit_modules.networks.transformer_options import transformer_options

TrainingBatch = tuple[Tensor, Tensor]
Batch = tuple[Tensor, Tensor, Tensor]


class Seq2Seq(LitModule):
    """An encoder–decoder transformer, trained by cross-entropy on each next token of the target.

    A training batch is (source, target), int64 (B, S) and (B, T + 1), padded behind; the target begins with
    BOS and ends with EOS. The decoder is given the true tokens before each one that it is to guess (teacher
    forcing). The loss is the mean over all tokens that aren't padding, so long targets count for more.

    A batch of validation or test has a third part, the alternatives, int64 (B, A, T + 1): all targets that
    would be right, each laid out like the target, the target itself first, with rows of padding where there
    are fewer. There the network writes on its own, greedily or in the test by a beam, and what it writes is
    compared with them. Logged are the loss in nats a token, without label smoothing, and the error rates.

    With `directions: both`, every second target of a training batch is turned round, `EOS` first and
    `BOS` last, so that one network learns to write from either end; validation writes forward, and the test
    searches from both ends.

    Args:
        config: Architecture, initialisation and decoding.
        info: The data's description.
        optimizer: See `LitModule`.
        schedule: See `LitModule`.

    Raises:
        ValueError: The data has no pairs of sequences, the embeddings of two different vocabularies are to be
            shared, or the architecture's values don't fit together.
    """

    dashboard = "seq2seq"
    info_type = SequencePairInfo
    data_names = ("digit_sequences", "pronunciation")

    config: Seq2SeqConfig
    info: SequencePairInfo

    def __init__(
        self, config: Seq2SeqConfig, info: SequencePairInfo, *, optimizer: Any = None, schedule: Any = None
    ) -> None:
        super().__init__(config, info, optimizer=optimizer, schedule=schedule)
        if config.share_embeddings and info.source_vocabulary != info.target_vocabulary:
            raise ValueError(
                "share_embeddings: true needs one vocabulary for source and target, and this data has two; "
                "set it to false"
            )
        self.network = build_encoder_decoder(config, info)
        self.example_input_array = (
            torch.full((1, info.source_length), BOS),
            torch.full((1, info.target_length - 1), BOS),
        )
        self.val_metrics = nn.ModuleDict({"loss": TokenLoss(), **error_rates(info)})
        self.test_metrics = nn.ModuleDict({"loss": TokenLoss(), **error_rates(info)})

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each of the target's; source (B, S), target (B, T)."""
        return self.network(source, target)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy over the tokens that aren't padding; a callback records the curve."""
        source, target = batch
        if self.config.directions == "both":
            odd = torch.arange(len(target), device=target.device).unsqueeze(-1) % 2 == 1
            target = torch.where(odd, reverse_targets(target), target)
        logits, labels = self.network(source, target[:, :-1]), target[:, 1:]  # (B, T, V), (B, T)
        loss = F.cross_entropy(
            widen(logits).flatten(0, 1),
            labels.flatten(),
            ignore_index=PAD,
            label_smoothing=self.config.label_smoothing,
        )
        return {"loss": loss, "logits": logits.detach(), "targets": labels}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """What is logged of one batch, added to the epoch's."""
        written = greedy_search(self.network, batch[0], max_length=self.max_length)
        return self._evaluate(batch, written, "val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """What is logged of one batch, added to the epoch's."""
        return self._evaluate(batch, self.write(batch[0]), "test", self.test_metrics)

    @property
    def max_length(self) -> int:
        """Of what is written, EOS included: as long as the data's longest target."""
        return self.info.target_length - 1

    def write(self, source: Tensor) -> Tensor:
        """The target that the config's search finds for each source, (B, S) → (B, T), without BOS."""
        return self.search(source, beam_size=self.config.beam_size).tokens[:, 0]

    def search(self, source: Tensor, *, beam_size: int, n_best: int = 1) -> Hypotheses:
        """The best targets of each source, found by a beam, or by one from each end.

        Args:
            source: (B, S), padded behind.
            beam_size: Hypotheses kept; of one from each end, by each.
            n_best: How many to return.

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

    def _evaluate(
        self, batch: Batch, written: Tensor, stage: str, metrics: nn.ModuleDict
    ) -> dict[str, Tensor]:
        source, target, alternatives = batch
        logits, labels = self.network(source, target[:, :-1]), target[:, 1:]
        losses = F.cross_entropy(
            widen(logits).flatten(0, 1), labels.flatten(), reduction="none", ignore_index=PAD
        )  # (B · T,)
        counted = losses[labels.flatten() != PAD]
        for name, metric in metrics.items():
            assert isinstance(metric, Metric)
            if name == "loss":
                metric.update(counted)
            else:
                metric.update(written, alternatives)
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
        return {"loss": counted.mean(), "logits": logits, "targets": labels, "written": written}


def build_encoder_decoder(config: Seq2SeqConfig, info: SequencePairInfo) -> EncoderDecoder:
    """Builds the network that a config describes, with fresh weights.

    Args:
        config: The architecture and how fresh weights are drawn.
        info: The data's vocabularies and lengths.

    Raises:
        ValueError: values that don't fit together.
    """
    network = EncoderDecoder(
        transformer_options(config),
        encoder_depth=config.depth,
        decoder_depth=config.depth if config.decoder_depth is None else config.decoder_depth,
        source_vocab_size=len(info.source_vocabulary),
        target_vocab_size=len(info.target_vocabulary),
        source_length=info.source_length,
        target_length=info.target_length,
        positions="none" if config.position == "rotary" else config.position,
        share_embeddings=config.share_embeddings,
        tie_embeddings=config.tie_embeddings,
        padding=PAD,
    )
    network.initialise(
        embedding_std=config.embedding_std, linear_std=config.linear_std, output_init=config.output_init
    )
    return network
