"""The TensorBoard dashboard of a sequence-to-sequence model: its mistakes and its cross-attention."""

import itertools
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from experiments.callbacks import pictures
from experiments.callbacks.dashboard import Dashboard
from experiments.callbacks.milestones import parts_over
from experiments.callbacks.summary import inspection, is_sharded
from experiments.callbacks.tensorboard import add_picture, writer
from lit_modules.functional.edit_distance import edit_alignment
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.metrics.error_rates import Nearest, content_lengths, nearest_answers

DRAWINGS = 10
"""Largest number of times that pictures and tables are drawn in a fit."""
WORST_SHOWN, CONFUSIONS_SHOWN = 30, 20
LOOKED_AT = (0.3, 0.6, 0.9, 0.99)
"""Positions in the validation set (0 first, 1 last) of the sequences with drawn attention."""
GAP = "∅"
"""The sign in place of a deleted or an inserted token."""


class Written(NamedTuple):
    """The outputs of a model for this rank's samples, on the CPU."""

    source: Tensor  # int64 (N, S)
    tokens: Tensor  # int64 (N, T'), without BOS
    alternatives: Tensor  # int64 (N, A, T)


class Seq2SeqDashboard(Dashboard):
    """Draws the dashboard of a sequence-to-sequence model.

    Batches of validation and test are `(source, target, alternatives)`. The module's steps return the output
    `written` (B, T), and its `info` has vocabularies, groups and names. Its `network` has
    `cross_attention(source, target)`, which returns (L, B, H, T, S).

    - After at most ten validations, evenly spread and including the last: the confusions of tokens over the
      whole set (a matrix, and a list of the most frequent ones); the sequences with the most edits; and the
      cross-attention of the same four sequences each time. The picture shows the mean over the heads of the
      last layer with labels. For the longest sequence a second picture shows all layers and heads.
    - After a test: the matrix, the list and the sequences with the most edits.

    Tokens of one group, such as the stresses of a phoneme, count as one in the matrix and the list. With
    several processes these two cover all sequences; everything else covers those of rank zero.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        self._drawn: int | None = None
        self._undrawn: Written | None = None
        self._owes_last = False  # whether the last validation before a resume has to be drawn

    def state_dict(self) -> dict[str, Any]:
        """Return how many parts of the fit are drawn, and whether the last validation is not."""
        return {"drawn": self._drawn, "undrawn": self._undrawn is not None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what is drawn already."""
        self._drawn, self._owes_last = state_dict["drawn"], state_dict.get("undrawn", False)

    # Collecting ---------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Clear the results of the last epoch."""
        self._batches = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep source, output and right answers of the batch."""
        source, _, alternatives = batch
        self._batches.append((source, outputs["written"].detach(), alternatives))

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end

    def _collected(self) -> Written:
        """Return all batches as one."""
        batches, self._batches = self._batches, []
        return Written(*(_joined(parts) for parts in zip(*batches, strict=True)))

    # Validation and test ------------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the layout."""
        super().on_train_start(trainer, pl_module)
        over = trainer.strategy.broadcast(parts_over(trainer, pl_module, DRAWINGS))
        # A part that was over before a resume but is not drawn yet is drawn at the next validation.
        self._drawn = over if self._drawn is None else min(over, self._drawn)
        self._undrawn = None

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw if it is due; with averaged weights, the module holds the average here."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._undrawn, self._owes_last = self._collected(), False
        # All ranks must decide alike, because they add up their counts; their clocks may differ.
        over = trainer.strategy.broadcast(parts_over(trainer, pl_module, DRAWINGS))
        if over > (self._drawn or 0):
            self._drawn = over
            self._draw_undrawn(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last validation, if that is not done yet."""
        self._draw_undrawn(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Repeat and draw the last validation, if the run had ended its training but was cut before this."""
        if self._owes_last:
            self._repeat_validation(trainer, pl_module)
            self._draw_undrawn(trainer, pl_module)

    def _repeat_validation(self, trainer: L.Trainer, pl_module: Any) -> None:
        loader = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        self._batches = []
        with inspection(pl_module), trainer.precision_plugin.forward_context():
            for number, batch in enumerate(itertools.islice(loader, int(trainer.num_val_batches[0]))):
                moved = trainer.strategy.batch_to_device(batch)
                outputs = pl_module.evaluation_step(moved, number, "val")
                self.on_validation_batch_end(trainer, pl_module, outputs, moved, number)
        self._undrawn = self._collected()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the mistakes of the test."""
        self._draw_mistakes(trainer, pl_module, "test", self._collected())

    def _draw_undrawn(self, trainer: L.Trainer, pl_module: Any) -> None:
        written, self._undrawn = self._undrawn, None
        if written is None:
            return
        self._draw_mistakes(trainer, pl_module, "val", written)
        to = writer(trainer)
        if to is not None and not is_sharded(trainer):
            with inspection(pl_module), trainer.precision_plugin.forward_context():
                _draw_attention(to, pl_module, written, trainer.global_step)

    def _draw_mistakes(self, trainer: L.Trainer, pl_module: Any, stage: str, written: Written) -> None:
        info, step = pl_module.info, trainer.global_step
        names, classes = token_classes(info)
        nearest = nearest_answers(written.tokens, written.alternatives, classes)
        counts = confusion_counts(written, nearest, classes, len(names))
        counts = trainer.strategy.reduce(counts.to(pl_module.device), reduce_op="sum").cpu()
        to = writer(trainer)
        if to is None:
            return
        shown = counts.any(0) | counts.any(1)
        edits, right = int(counts.sum() - counts.diagonal().sum()), int(counts[:-1].sum())
        share = f"{100 * edits / max(1, right):.2f} %"
        title = f"{stage}: {edits:,} edits in {right:,} {info.error_names[0]}s, {share}"
        chosen = [name for name, there in zip(names, shown.tolist(), strict=True) if there]
        picture = pictures.confusion_matrix(counts[shown][:, shown].numpy(), chosen, title)
        add_picture(to, f"{stage}/confusion_matrix", picture, step)
        to.add_text(f"{stage}/confusions", most_confused(counts, names), step)
        to.add_text(f"{stage}/worst", worst(written, info), step)


def token_classes(info: Any) -> tuple[list[str], Tensor]:
    """Return the names of the classes of tokens, the gap last, and the class of each token (V,).

    Without groups each token is a class. The name of a group is the common start of its tokens' names: AH for
    AH0 and AH1.
    """
    groups = info.target_groups or tuple(range(len(info.target_vocabulary)))
    members: dict[int, list[str]] = {group: [] for group in range(max(groups) + 1)}
    for name, group in zip(info.target_vocabulary, groups, strict=True):
        members[group].append(name)
    names = [_beginning(found) or "/".join(found) for found in members.values()]
    return [*names, GAP], torch.tensor(groups)


def _beginning(texts: Sequence[str]) -> str:
    """Return the common prefix of all texts."""
    return "".join(c[0] for c in takewhile(lambda c: len(set(c)) == 1, zip(*texts, strict=False)))


def confusion_counts(written: Written, nearest: Nearest, classes: Tensor, count: int) -> Tensor:
    """Count pairs of true and written classes: int64 (count, count), true class by written class.

    Each output is aligned with its nearest right answer. The last class is the gap: its row counts inserted
    tokens, its column deleted tokens.
    """
    answers = written.alternatives[torch.arange(len(nearest.which)), nearest.which, 1:]
    true, ours = classes[answers], classes[written.tokens]
    at_true, at_ours = edit_alignment(
        true, ours, a_lengths=nearest.lengths, b_lengths=content_lengths(written.tokens)
    )
    pairs = []
    for sequence, at in ((true, at_true), (ours, at_ours)):
        sequence = F.pad(sequence, (0, 1))  # so that an empty sequence can be indexed
        pairs.append(torch.where(at < 0, count - 1, sequence.gather(1, at.clamp(min=0))))
    used = (at_true >= 0) | (at_ours >= 0)
    flat = pairs[0][used] * count + pairs[1][used]
    return torch.bincount(flat, minlength=count**2).view(count, count)


def most_confused(counts: Tensor, names: Sequence[str]) -> str:
    """Build a Markdown table of the most frequent edits, with the occurrences of the true class."""
    edits = counts - torch.diag(counts.diagonal())
    rows = ["| true | written | times | of |", "|---|---|--:|--:|"]
    flat = edits.flatten()
    for place in flat.argsort(descending=True, stable=True)[:CONFUSIONS_SHOWN].tolist():
        true, ours = divmod(place, len(names))
        if flat[place]:
            total = "" if names[true] == GAP else f"{int(counts[true].sum()):,}"
            rows.append(f"| {names[true]} | {names[ours]} | {int(flat[place]):,} | {total} |")
    return "\n".join(rows)


def worst(written: Written, info: Any) -> str:
    """Build a Markdown table of the sequences with the most edits; with equal edits the shorter first."""
    nearest = nearest_answers(written.tokens, written.alternatives)
    order = (nearest.edits * (int(nearest.lengths.max()) + 1) - nearest.lengths).argsort(
        descending=True, stable=True
    )
    rows = [f"| {info.error_names[1]} | written | nearest right answer | edits |", "|---|---|---|--:|"]
    for i in order[:WORST_SHOWN].tolist():
        if nearest.edits[i]:
            answer = written.alternatives[i, nearest.which[i], 1:]
            cells = (
                spelt(written.source[i], info.source_vocabulary),
                spelt(written.tokens[i], info.target_vocabulary),
                spelt(answer, info.target_vocabulary),
            )
            rows.append(f"| {' | '.join(cells)} | {int(nearest.edits[i])} |")
    return "\n".join(rows)


def spelt(tokens: Tensor, vocabulary: Sequence[str]) -> str:
    """Write a row of tokens up to its end as text, with spaces unless all tokens are single characters."""
    symbols = [vocabulary[token] for token in tokens[: int(content_lengths(tokens))].tolist()]
    return ("" if all(len(symbol) == 1 for symbol in vocabulary[EOS + 1 :]) else " ").join(symbols)


def _draw_attention(to: SummaryWriter, pl_module: Any, written: Written, step: int) -> None:
    info = pl_module.info
    for number, share in enumerate(LOOKED_AT, start=1):
        row = round(share * (len(written.source) - 1))
        source, ours = written.source[row], written.tokens[row]
        source = source[: int((source != PAD).sum())]
        ours = ours[: int(content_lengths(ours))]
        target = torch.cat([torch.tensor([BOS]), ours])  # the decoder's input
        maps = pl_module.network.cross_attention(
            source.to(pl_module.device).unsqueeze(0), target.to(pl_module.device).unsqueeze(0)
        )[:, 0]
        shares = maps.float().cpu().numpy()  # (L, H, T, S)
        read = [info.source_vocabulary[token] for token in source.tolist()]
        wrote = [info.target_vocabulary[token] for token in [*ours.tolist(), EOS]]
        title = f"{spelt(source, info.source_vocabulary)} → {spelt(ours, info.target_vocabulary)}"
        picture = pictures.attention_map(np.asarray(shares[-1].mean(0)), wrote, title, seen=read)
        add_picture(to, f"attention/{number}", picture, step)
    add_picture(to, "attention/heads", pictures.attention_grid(shares, f"by layer and head: {title}"), step)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate batches (B, …, T) of different lengths T, padded at the end, on the CPU."""
    widest = max(part.shape[-1] for part in parts)
    return torch.cat([F.pad(part, (0, widest - part.shape[-1]), value=PAD) for part in parts]).cpu()
