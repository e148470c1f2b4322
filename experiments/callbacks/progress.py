"""Show the progress of a fit: a bar in a terminal, plain lines elsewhere."""

import atexit
import math
import time
from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import Tensor

from experiments.callbacks.milestones import Milestones
from experiments.callbacks.pace import Pace, batch_size
from experiments.callbacks.training_curve import tokens_per_sample
from experiments.training.lightning_adapter import batches_done

BAR_WIDTH = 24
BAR_PERIOD = 0.25
"""Seconds between two redraws of the bar; a redraw takes about a millisecond."""
LINE_PERIOD = 10.0
"""Seconds between two plain lines within an epoch."""


class Progress(Callback):
    """Shows epoch, step, metrics, samples (or tokens) per second, and the time left.

    In a terminal there is a bar at the bottom, and above it one line for each finished epoch. Elsewhere (a
    pipe, a log file, a notebook) there are the same lines, and one more every ten seconds within an epoch. It
    reads values from the device only when it draws.
    """

    def __init__(self, console: Console | None = None, milestones: Milestones | None = None) -> None:
        self.console = console or Console()
        self.milestones = milestones
        self._live: Live | None = None
        self._pace = Pace()
        self._due = math.inf
        self._stage = ""
        self._loss: Tensor | None = None

    # What is counted ----------------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clocks and the bar."""
        self._pace = Pace()
        self._stage, self._loss = "", None
        self._pace.resume()  # a resume within an epoch has no start of an epoch
        self._open(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Continue the training clock."""
        self._pace.resume()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and draw if a redraw is due."""
        self._pace.count(batch_size(batch))
        self._loss = (outputs or {}).get("loss")
        if time.perf_counter() >= self._due:
            self._draw(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the line of the epoch."""
        self._pace.pause()
        if self._steps_between is None:
            self._pace.end_period()
        if trainer.is_global_zero:
            line = self._line(trainer, epoch_done=True)
            if note := getattr(pl_module, "progress_note", str)():
                line["note"] = note
            self._write(line)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the training clock."""
        self._pace.pause()
        self._stage = "validation"
        if trainer.state.fn == "validate":
            self._open(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw if a redraw is due."""
        if time.perf_counter() >= self._due:
            batches = trainer.num_test_batches if self._stage == "test" else trainer.num_val_batches
            self._draw(trainer, batch_idx + 1, batches)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Continue the training clock."""
        self._stage = ""
        if trainer.state.fn == "fit":
            if self._steps_between is not None:
                self._pace.end_period()
            self._pace.resume()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the bar."""
        self._stage = "test"
        self._open(trainer)

    # The terminal -------------------------------------------------------------------------------------------

    def _open(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        in_terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        if in_terminal and self._live is None:
            # Without Rich's refresh thread, which would compete with the training loop.
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
            atexit.register(self._close)  # so that the cursor is visible again
        self._due = time.perf_counter() + (BAR_PERIOD if self._live else LINE_PERIOD)

    def _close(self) -> None:
        self._due = math.inf
        if self._live is not None:
            self._live.stop()
            self._live = None
            atexit.unregister(self._close)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self._close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the bar."""
        self._close()

    # What is shown ------------------------------------------------------------------------------------------

    def _draw(self, trainer: L.Trainer, done: int = 0, batches: Sequence[float] = ()) -> None:
        """Redraw the bar or write a line; in an evaluation `done` of `batches` are done."""
        where = f"{self._stage} {done}/{sum(batches):.0f}" if batches else ""
        if trainer.state.fn == "fit":
            line = self._line(trainer, where=where)
            fraction = batches_done(trainer) / max(1, self._batches(trainer))
        else:
            line = {"epoch": where}
            fraction = done / max(1, sum(batches))
        if self._live is None:
            self._write(line)
            self._due = time.perf_counter() + LINE_PERIOD
        else:
            self._live.update(self._bar(line, fraction), refresh=True)
            self._due = time.perf_counter() + BAR_PERIOD

    def _bar(self, line: dict[str, str], fraction: float) -> Text:
        """Build the bar: the most important parts first, and of the others those that fit the terminal."""
        done, left = "━━" if self.console.encoding.startswith("utf") else "#-"
        width = min(BAR_WIDTH, self.console.width // 6)
        filled = round(width * min(1.0, fraction))
        metrics = sorted((key for key in line if "/" in key), key=lambda key: not key.endswith("/loss"))
        order = ("left", "where", *metrics, "step", "rate")
        rest = [line[key] for key in order if key in line]
        text = Text.assemble(
            (line["epoch"], "bold"),
            "  ",
            (done * filled, "green"),
            (left * (width - filled), "bright_black"),
            no_wrap=True,
            overflow="crop",
        )
        for part in rest:
            if text.cell_len + 2 + len(part) > self.console.width:
                break  # a number that is cut is a wrong number
            text.append(f"  {part}")
        return text

    def _write(self, line: dict[str, str]) -> None:
        width = self.console.width if self.console.is_terminal else math.inf
        for row in rows(list(line.values()), width):
            self.console.print(Text(row), soft_wrap=True)
        self.console.file.flush()

    def _line(self, trainer: L.Trainer, *, epoch_done: bool = False, where: str = "") -> dict[str, str]:
        """Return the parts of the line by name, such as `epoch 3/12` and `train/loss 0.1234`."""
        epochs, steps = _epochs(trainer), self._steps(trainer)
        line = {
            "epoch": f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if math.isfinite(epochs) else ""),
            "step": f"step {trainer.global_step}" + (f"/{steps:.0f}" if math.isfinite(steps) else ""),
        }
        if where:
            line["where"] = where
        metrics = {k: v for k, v in trainer.callback_metrics.items() if k.startswith(("train", "val"))}
        if "train/loss" not in metrics and self._loss is not None:
            # The loss of this batch, until the training curve has its first point.
            metrics["train/loss"] = self._loss * trainer.accumulate_grad_batches
        # Plain lines stay on the page. Within an epoch they leave out `val/…`, which is of an earlier step.
        shown = [k for k in metrics if epoch_done or self._live or k.startswith("train")]
        line |= {name: f"{name} {float(metrics[name]):.4f}" for name in sorted(shown, key=_loss_first)}
        if rate := self._pace.samples_per_second():
            tokens = tokens_per_sample(trainer.lightning_module)
            unit = "tokens" if tokens else "samples"
            line["rate"] = f"{rate * trainer.world_size * max(1, tokens):,.0f} {unit}/s"
        left = self._seconds_left(trainer)
        if math.isfinite(left):
            line["left"] = f"left {duration(left)}"
        return line

    @property
    def _steps_between(self) -> int | None:
        """Optimizer steps from one validation to the next; `None` if validations go by epochs."""
        return None if self.milestones is None else self.milestones.check_val_every_n_steps

    def _seconds_left(self, trainer: L.Trainer) -> float:
        """Return the seconds until the fit ends by steps or time; infinite if neither is known."""
        batches_left = max(0, self._batches(trainer) - batches_done(trainer))
        period = trainer.num_training_batches
        if self._steps_between is not None:
            period = self._steps_between * trainer.accumulate_grad_batches
        left = self._pace.seconds_left(batches_left, batches_left / period)
        time_left = math.inf if self.milestones is None else max(0.0, self.milestones.seconds_left())
        return min(math.inf if left is None else left, time_left)

    def _steps(self, trainer: L.Trainer) -> float:
        """Return the optimizer steps of the whole fit; infinite if neither epochs nor steps are limited."""
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        steps = _epochs(trainer) * (math.ceil(per_epoch) if math.isfinite(per_epoch) else per_epoch)
        return min(steps, trainer.max_steps) if trainer.max_steps >= 0 else steps

    def _batches(self, trainer: L.Trainer) -> float:
        """Return the training batches of the whole fit."""
        batches = _epochs(trainer) * trainer.num_training_batches
        return (
            min(batches, trainer.max_steps * trainer.accumulate_grad_batches)
            if trainer.max_steps >= 0
            else batches
        )


def rows(parts: Sequence[str], width: float) -> list[str]:
    """Join parts to rows of at most `width` columns without breaking one; later rows are indented."""
    found = [parts[0]]
    for part in parts[1:]:
        longer = f"{found[-1]}  {part}"
        if cell_len(longer) <= width:
            found[-1] = longer
        else:
            found.append(f"  {part}")
    return found


def _epochs(trainer: L.Trainer) -> float:
    return math.inf if trainer.max_epochs is None or trainer.max_epochs < 0 else trainer.max_epochs


def _loss_first(name: str) -> tuple[str, bool, str]:
    stage, _, metric = name.partition("/")
    return stage, metric != "loss", metric


def duration(seconds: float) -> str:
    """Format seconds as `0:42`, `12:03` or `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
