import io
import math
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from rich.console import Console

from experiments.callbacks import progress
from experiments.callbacks.milestones import Milestones
from experiments.callbacks.progress import Progress, duration, rows

# Lightning 2.6 asks PyTorch's pytree in a way that PyTorch 2.15 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Batches:
    """A loader, which a list is not: Lightning takes that for several."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Model(L.LightningModule):
    def __init__(self, error=None):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.error = error

    def training_step(self, batch, batch_idx):
        if self.error is not None and batch_idx == 2:
            raise self.error
        return {"loss": self.layer(batch[0]).square().mean()}

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", 0.25, batch_size=2)
        self.log("val/accuracy", 0.5, batch_size=2)

    def test_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


BATCH = (torch.ones(2, 2), torch.zeros(2))


def fit(progress, model=None, **options):
    trainer = L.Trainer(
        accelerator="cpu",
        **{"max_epochs": 3, "num_sanity_val_steps": 1, **options},
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model or Model(), Batches([BATCH] * 4), Batches([BATCH] * 3))
    return trainer


@pytest.fixture
def eager(monkeypatch):
    """Draw at every opportunity."""
    monkeypatch.setattr(progress, "LINE_PERIOD", 0.0)
    monkeypatch.setattr(progress, "BAR_PERIOD", 0.0)


def test_plain_lines_say_epoch_step_metrics_rate_and_time_left():
    file = io.StringIO()
    fit(Progress(Console(file=file)))
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        where = f"epoch {number}/3  step {4 * number}/12"
        metrics = r"train/loss \d\.\d{4}  val/loss 0.2500  val/accuracy 0.5000"
        assert re.fullmatch(rf"{where}  {metrics}  [\d,]+ samples/s  left \d+:\d\d", line)
    assert lines[-1].endswith("left 0:00")


def test_a_model_may_add_a_note_to_an_epochs_line():
    class Talking(Model):
        def progress_note(self):
            return "" if self.current_epoch == 0 else f"predicted [red]{self.current_epoch}[/]"

    file = io.StringIO()
    fit(Progress(Console(file=file)), Talking())
    lines = file.getvalue().splitlines()
    assert "predicted" not in lines[0]
    assert [line.partition("  predicted ")[2] for line in lines[1:]] == ["[red]1[/]", "[red]2[/]"]


def test_long_epochs_have_lines_within(eager):
    file = io.StringIO()
    fit(Progress(Console(file=file)), max_epochs=1)
    lines = file.getvalue().splitlines()
    within = [line for line in lines if "val/" not in line and "validation" not in line]
    assert [re.search(r"step \d/4", line)[0] for line in within] == [f"step {n}/4" for n in (1, 2, 3, 4)]
    assert all("train/loss" in line for line in within)
    assert [line for line in lines if "validation 2/3" in line]


def test_time_left_reaches_over_the_whole_fit(eager):
    class Slow(Model):
        def training_step(self, batch, batch_idx):
            time.sleep(0.02)
            self.trainer.should_stop = batch_idx == 3  # one epoch is enough to see it
            return super().training_step(batch, batch_idx)

    file = io.StringIO()
    fit(Progress(Console(file=file)), Slow(), max_epochs=500)
    first = next(line for line in file.getvalue().splitlines() if "left" in line)
    minutes, seconds = re.search(r"left (\d+):(\d+)", first).groups()
    assert 40 <= 60 * int(minutes) + int(seconds) <= 400  # 2,000 batches of at least 20 ms


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": -1, "max_steps": 6}, "step 6/6"),
        ({"max_epochs": 2, "accumulate_grad_batches": 3}, "step 4/4"),
        ({"max_epochs": 2, "limit_train_batches": 1}, "step 2/2"),
        ({"max_epochs": 5, "max_steps": 3}, "step 3/3"),
    ],
)
def test_the_last_step_is_the_total(options, steps):
    file = io.StringIO()
    fit(Progress(Console(file=file)), **options)
    assert steps in file.getvalue().splitlines()[-1]


def test_terminal_has_a_bar_and_a_line_per_epoch(eager):
    file = io.StringIO()
    bar = Progress(Console(file=file, force_terminal=True, width=150))
    trainer = fit(bar)
    text = file.getvalue()
    assert "━" in text
    assert "validation 3/3" in text
    lines = re.findall(
        r"epoch \d/3  step \d+/12  train/loss \d.\d+  val/loss 0.2500[^\r]*?left \d:\d\d\n", text
    )
    assert len(lines) == 3
    assert text.count(HIDE) == text.count(SHOW) == 1
    trainer.test(Model(), Batches([BATCH] * 2), verbose=False)
    assert "test 2/2" in file.getvalue()
    assert file.getvalue().count(HIDE) == file.getvalue().count(SHOW) == 2


@pytest.mark.parametrize("width", [48, 53, 60, 80])
def test_a_narrow_terminal_keeps_epoch_and_time_left_on_one_row_of_whole_parts(width, eager):
    file = io.StringIO()
    fit(Progress(Console(file=file, force_terminal=True, width=width)))
    rows = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", row) for row in re.split(r"[\r\n]", file.getvalue())]
    bars = [row for row in rows if "━" in row]
    assert all(len(row) <= width for row in bars)
    assert all(row.startswith("epoch ") for row in bars)
    whole = r"left [\d:]+|step \d+/\d+|[\d,]+ (samples|tokens)/s|\w+/\w+ -?\d+\.\d{4}|validation \d+/\d+"
    for row in bars:
        parts = re.split(r"  +", row.strip())[2:]
        assert all(re.fullmatch(whole, part) for part in parts), parts
    assert "left 0:0" in bars[-1]


@pytest.mark.parametrize("width", [60, 100])
def test_no_line_of_a_terminal_breaks_inside_a_part(width):
    file = io.StringIO()
    fit(Progress(Console(file=file, force_terminal=True, width=width)))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip() and "━" not in line]
    assert all(len(line) <= width for line in lines)
    parts = [part for line in lines for part in re.split(r"  +", line.strip())]
    whole = r"epoch \d/3|left [\d:]+|step \d+/\d+|[\d,]+ samples/s|\w+/\w+ \d+\.\d{4}"
    assert all(re.fullmatch(whole, part) for part in parts), parts
    assert sum(part.startswith("val/loss") for part in parts) == 3


def test_rows_are_full_and_a_part_that_is_too_long_has_its_own():
    assert rows(["epoch 1", "step 2", "a" * 30, "b"], 20) == ["epoch 1  step 2", "  " + "a" * 30, "  b"]
    assert rows(["学习", "率", "x"], 8) == ["学习  率", "  x"]  # two columns each
    assert rows(["a", "b"], math.inf) == ["a  b"]


@pytest.mark.parametrize(("width", "shown"), [(60, "train/loss"), (80, "val/loss")])
def test_the_bar_shows_the_loss_before_the_step_and_the_rate(width, shown, eager):
    file = io.StringIO()
    fit(Progress(Console(file=file, force_terminal=True, width=width)))
    bars = [row for row in re.split(r"[\r\n]", file.getvalue()) if "━" in row]
    assert any(shown in bar for bar in bars)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_terminal_is_given_back_after_an_error(error, eager):
    file = io.StringIO()
    bar = Progress(Console(file=file, force_terminal=True))
    stdout = sys.stdout
    with pytest.raises((RuntimeError, SystemExit)):
        fit(bar, Model(error))
    assert file.getvalue().rindex(SHOW) > file.getvalue().rindex(HIDE)
    assert sys.stdout is stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_process_that_exits_in_the_middle_shows_the_cursor_again(tmp_path):
    import pty

    script = tmp_path / "leaves.py"
    script.write_text(
        "import sys\n"
        "from types import SimpleNamespace\n"
        "from experiments.callbacks.progress import Progress\n"
        "bar = Progress()\n"
        "bar._open(SimpleNamespace(is_global_zero=True))\n"
        "print('a line above the bar')\n"
        "sys.exit(3)\n"
    )
    main, side = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as terminal:
        environment = {**os.environ, "TERM": "xterm-256color"}
        process = subprocess.Popen([sys.executable, script], stdout=side, stderr=side, env=environment)
        os.close(side)
        text = b""
        try:
            while chunk := terminal.read(65536):
                text += chunk
        except OSError:  # Linux says so when the other side is closed
            pass
        assert process.wait(60) == 3
    assert b"a line above the bar" in text
    assert text.rindex(SHOW.encode()) > text.rindex(HIDE.encode())


def test_ranks_above_zero_are_silent(monkeypatch, eager):
    file = io.StringIO()
    monkeypatch.setattr(L.Trainer, "is_global_zero", False)
    fit(Progress(Console(file=file, force_terminal=True)))
    assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (42.4, "0:42"), (59.6, "1:00"), (723, "12:03"), (3723, "1:02:03")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_text_is_counted_in_tokens():
    model = Model()
    model.info = SimpleNamespace(context_length=5)
    file = io.StringIO()
    fit(Progress(Console(file=file)), model)
    (rate,) = re.findall(r"([\d,]+) tokens/s", file.getvalue().splitlines()[-1])
    assert "samples/s" not in file.getvalue()
    assert int(rate.replace(",", "")) > 0


def test_a_fit_that_goes_on_within_an_epoch_is_timed_from_there():
    """Lightning starts no epoch then."""
    shown = Progress(Console(file=io.StringIO()))
    trainer = fit(shown)
    shown.on_train_start(trainer, None)
    for _ in range(3):
        time.sleep(0.01)
        shown.on_train_batch_end(trainer, None, {"loss": torch.ones(())}, BATCH, 0)
    assert shown._pace.samples_per_second() < 2 / 0.01


def test_the_time_left_is_no_more_than_the_fit_has_and_counts_validations_by_steps(monkeypatch):
    milestones = Milestones(check_val_every_n_steps=3, max_minutes=2, clock=lambda: 78.0)
    shown = Progress(Console(file=io.StringIO()), milestones=milestones)
    trainer = fit(shown, accumulate_grad_batches=2)  # three epochs of four batches
    asked = []

    def left(batches, periods):
        asked.append((batches, periods))
        return 500.0

    monkeypatch.setattr(shown._pace, "seconds_left", left)
    monkeypatch.setattr("experiments.callbacks.progress.batches_done", lambda trainer: 3)
    assert shown._seconds_left(trainer) == 42.0
    assert asked == [(9, 9 / 6)]
    milestones.max_seconds = math.inf
    assert shown._seconds_left(trainer) == 500.0
    monkeypatch.setattr(shown._pace, "seconds_left", lambda batches, periods: None)
    assert shown._seconds_left(trainer) == math.inf


def test_validations_within_an_epoch_end_a_period_each():
    milestones = Milestones(check_val_every_n_steps=2, clock=lambda: 0.0)
    shown = Progress(Console(file=io.StringIO()), milestones=milestones)
    fit(shown, check_val_every_n_epoch=None, val_check_interval=2)
    assert shown._pace._periods == 3 * 2
