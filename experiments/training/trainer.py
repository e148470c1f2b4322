"""Build the Lightning Trainer from the `trainer` section, and check it against this machine."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger

from experiments.callbacks.accumulation import GroupAverage
from experiments.callbacks.checkpoints import Checkpoints
from experiments.callbacks.class_curves import ClassCurves
from experiments.callbacks.early_stopping import EarlyStopping
from experiments.callbacks.exact_resume import ExactResume
from experiments.callbacks.histograms import Histograms
from experiments.callbacks.layer_gradients import LayerGradients
from experiments.callbacks.milestones import Milestones
from experiments.callbacks.mistake_gradients import MistakeGradients
from experiments.callbacks.model_graph import ModelGraph
from experiments.callbacks.plateau import Plateau
from experiments.callbacks.progress import Progress
from experiments.callbacks.summary import Summary
from experiments.callbacks.training_curve import TrainingCurve
from experiments.callbacks.weight_average import WeightAverage
from experiments.config import registry
from experiments.config.trainer import TrainerConfig
from experiments.errors import UserError
from experiments.training.checkpoint import AtomicCheckpointIO
from experiments.training.curve_log import CurveLog
from experiments.training.event_log import EventLog
from experiments.training.fit_profiler import build_profiler
from experiments.training.lightning_adapter import NEVER, skip_empty_hooks
from experiments.training.threads import usable_cores
from lit_modules.functional.precision import multiplies_bf16

MEASURED: dict[str, type[LayerGradients | MistakeGradients | Histograms]] = {
    "layer_gradients": LayerGradients,
    "mistake_gradients": MistakeGradients,
    "histograms": Histograms,
}
"""Names in `trainer.measure` of callbacks that log every few steps."""

_LAUNCHED = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "NODE_RANK", "SLURM_NTASKS", "LSB_JOBID", "PMI_SIZE")
"""Variables of which a launcher sets at least one."""


def check_hardware(config: TrainerConfig, model: Any = None) -> None:
    """Check the config against the hardware before anything is downloaded or built.

    Args:
        config: The `trainer` section.
        model: The `model` section; it may ask for kernels that this machine lacks.

    Raises:
        UserError: The accelerator, the number of devices, the precision or a kernel is not available here.
    """
    accelerator = resolve_accelerator(config)
    present = _available()
    if accelerator not in present:
        raise UserError(
            f"trainer.accelerator = {config.accelerator!r}: this machine has no such device; "
            f"available: {', '.join(sorted(present))}, or auto"
        )
    devices = config.devices
    wanted = max(devices) + 1 if isinstance(devices, list) and devices else devices
    if isinstance(wanted, int) and accelerator != "cpu" and wanted > present[accelerator]:
        raise UserError(
            f"trainer.devices = {devices}: this machine has {present[accelerator]} {accelerator} device(s)"
        )
    is_launched = any(name in os.environ for name in _LAUNCHED)
    # A launcher may give each of its processes one core.
    cores = (os.cpu_count() or 1) if is_launched else len(usable_cores())
    if isinstance(wanted, int) and accelerator == "cpu" and wanted > cores:
        raise UserError(f"trainer.devices = {devices}: this process may use {cores} CPU cores")
    if config.num_nodes > 1 and not is_launched:
        raise UserError(
            f"trainer.num_nodes = {config.num_nodes}: no launcher has started this process; start the run "
            "with torchrun or srun on every machine"
        )
    if isinstance(devices, list) and (accelerator == "cpu" or len(set(devices)) < len(devices)):
        raise UserError(f"trainer.devices = {devices}: list each GPU once; for a CPU give a number")
    if config.strategy == "fsdp" and accelerator != "cuda":
        raise UserError("trainer.strategy = 'fsdp' needs CUDA GPUs; use ddp or auto")
    if config.precision == "16-mixed" and accelerator == "cpu":
        raise UserError("trainer.precision = '16-mixed' needs a GPU; on a CPU use 32-true or bf16-mixed")
    if config.precision == "64-true" and accelerator == "mps":
        raise UserError("trainer.precision = '64-true' is not supported on MPS; use 32-true")
    if isinstance(config.compile, str) and accelerator != "cuda":
        raise UserError(f"trainer.compile = {config.compile!r} needs a CUDA GPU; use true or false")
    if getattr(model, "implementation", None) == "triton":
        _check_triton(config)


def _check_triton(config: TrainerConfig) -> None:
    """Check that Triton's kernels can run.

    Raises:
        UserError: There is no GPU, or too old a one; Triton is not installed; the precision is fp64.
    """
    asked, instead = "model.implementation = 'triton'", "use fused, by_hand or tiled"
    if resolve_accelerator(config) != "cuda":
        raise UserError(f"{asked} needs a CUDA GPU; {instead}")
    if find_spec("triton") is None:
        raise UserError(f"{asked} needs the package triton (pip install triton); or {instead}")
    if torch.cuda.get_device_capability() < (8, 0):
        raise UserError(f"{asked} needs a GPU of compute capability 8.0 (Ampere) or newer; {instead}")
    if config.precision == "64-true":
        raise UserError(f"{asked} has no fp64; {instead}, or another trainer.precision than '64-true'")


def at_hand(config: TrainerConfig) -> tuple[TrainerConfig, tuple[str, ...]]:
    """Replace hardware that this machine lacks, for a run that began on another machine.

    The number of processes stays, because each of them adds a batch to a step. Where there are too few GPUs,
    it becomes their number.

    Args:
        config: The `trainer` section of a run that continues, or of a checkpoint to evaluate.

    Returns:
        The section for this machine, and a line for the user about each replaced setting.
    """
    present, new = _available(), dataclasses.replace(config)
    if resolve_accelerator(config) not in present:
        new.accelerator = next(kind for kind in ("cuda", "mps", "cpu") if kind in present)
    kind = resolve_accelerator(new)
    if isinstance(new.devices, list) and (kind == "cpu" or max(new.devices) >= present[kind]):
        new.devices = len(new.devices)
    if kind != "cpu" and isinstance(new.devices, int):
        new.devices = min(new.devices, present[kind])
    if new.strategy == "fsdp" and kind != "cuda":
        new.strategy = "auto" if new.devices in (1, "auto") else "ddp"
    if (new.precision == "16-mixed" and kind == "cpu") or (new.precision == "64-true" and kind == "mps"):
        new.precision = "32-true"
    if isinstance(new.compile, str) and kind != "cuda":
        new.compile = new.compile == "reduce-overhead"
    notes = [
        f"trainer.{key} = {old!r} is not available on this machine; using {value!r}"
        for key, old in vars(config).items()
        if (value := getattr(new, key)) != old
    ]
    return new, tuple(notes)


def resolve_accelerator(config: TrainerConfig) -> str:
    """Return the kind of device; `auto` is CUDA if available, then Apple's MPS, then the CPU."""
    if config.accelerator == "gpu":
        return "mps" if "mps" in _available() and "cuda" not in _available() else "cuda"
    if config.accelerator != "auto":
        return config.accelerator
    return next(kind for kind in ("cuda", "mps", "cpu") if kind in _available())


def _available() -> dict[str, int]:
    found = {"cpu": 1}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    return found


def resolve_precision(config: TrainerConfig) -> str:
    """Return the precision; `auto` is bf16 only where the hardware multiplies bf16."""
    if config.precision != "auto":
        return config.precision
    return "bf16-mixed" if multiplies_bf16(torch.device(resolve_accelerator(config))) else "32-true"


def resolved(config: TrainerConfig) -> dict[str, Any]:
    """Return accelerator, precision and compile as used here; a checkpoint stores them with its config."""
    return {
        "accelerator": resolve_accelerator(config),
        "precision": resolve_precision(config),
        "compile": config.compile,
    }


def settle(config: TrainerConfig, saved: Mapping[str, Any]) -> tuple[TrainerConfig, tuple[str, ...]]:
    """Resolve `precision: auto` to the precision that the run began with, and replace missing hardware.

    Args:
        config: The `trainer` section of a run that continues, or of a checkpoint to evaluate.
        saved: The result of `resolved` when the checkpoint was written; empty if it has none.

    Returns:
        The section for this machine with its precision resolved, and lines for the user about what differs.
    """
    config, lacking = at_hand(config)
    here = resolved(config)
    settled, notes = config, [*lacking]
    if config.precision == "auto":
        settled = dataclasses.replace(config, precision=saved.get("precision", here["precision"]))
    if settled.precision != here["precision"]:
        notes.append(
            f"precision {settled.precision}, as at the start of the run; a new run on this machine would use "
            f"{here['precision']}"
        )
    for key, what in (("accelerator", "device"), ("compile", "trainer.compile")):
        if saved.get(key, here[key]) != here[key]:
            notes.append(
                f"{what} {here[key]}, before {saved[key]}: the results will differ by rounding from those of "
                "an uninterrupted run"
            )
    return settled, tuple(notes)


def build_trainer(
    config: TrainerConfig,
    *,
    run_dir: Path | None,
    dashboard: str | None,
    resume: ExactResume | None,
    resumed_step: int | None = None,
    checkpoint_io: AtomicCheckpointIO | None = None,
    fast_dev_run: bool = False,
    more: Sequence[Callback] = (),
    more_loggers: Sequence[Logger] = (),
) -> L.Trainer:
    """Build the Trainer of one fit.

    Args:
        config: The `trainer` section.
        run_dir: The directory for logs and checkpoints; `None` writes nothing.
        dashboard: The short name of the model's dashboard callback; `None` for one with curves only.
        resume: The callback that makes checkpoints exact; `None` for a Trainer that only evaluates.
        resumed_step: The step that a resumed run continues from; later log entries are dropped.
        checkpoint_io: Reads and writes checkpoints; for a resumed run it already holds the checkpoint.
        fast_dev_run: Run one batch of each stage, and write nothing.
        more: Own callbacks, called after the suite's.
        more_loggers: Own loggers.
    """
    callbacks: list[Callback] = []
    loggers: list[Logger] = []
    by_steps = resume is not None and config.check_val_every_n_steps is not None
    milestones = None
    if resume is not None:
        milestones = Milestones(
            check_val_every_n_steps=config.check_val_every_n_steps,
            max_minutes=config.max_minutes,
            clock=resume.seconds,
        )
        callbacks += [resume, milestones]
        if config.accumulate_grad_batches > 1:
            callbacks.append(GroupAverage())
        if config.ema_decay is not None:
            callbacks.append(WeightAverage(config.ema_decay))
        callbacks += [TrainingCurve(config.log_every_n_steps), Summary()]
        callbacks += [MEASURED[name](config.log_every_n_steps) for name in MEASURED if name in config.measure]
        if "class_curves" in config.measure:
            callbacks.append(ClassCurves())
        if "graph" in config.measure:
            callbacks.append(ModelGraph())
        if "decoding" in config.measure:
            from experiments.callbacks.decoding_speed import DecodingSpeed  # imports the networks

            callbacks.append(DecodingSpeed())
        if (patience := config.early_stopping_patience) is None:
            callbacks.append(Plateau(config.monitor, config.monitor_mode))
        else:
            callbacks.append(EarlyStopping(config.monitor, mode=config.monitor_mode, patience=patience))
    if "loss_by_position" in config.measure:  # an evaluation and a dry run log its two losses too
        from experiments.callbacks.loss_by_position import LossByPosition

        callbacks.append(LossByPosition())
    if config.progress_bar:
        callbacks.append(Progress(milestones=milestones))
    if run_dir is not None:
        loggers = [
            EventLog(run_dir, resumed_step=resumed_step),
            CurveLog(run_dir / "metrics.csv", resumed_step=resumed_step),
        ]
        if config.dashboard:
            callbacks.append(registry.dashboard(dashboard)())
        if resume is not None:
            callbacks.append(
                Checkpoints(
                    folder=run_dir / "checkpoints",
                    monitor=config.monitor,
                    mode=config.monitor_mode,
                    every_n_steps=config.checkpoint_every_n_steps,
                )
            )
    trainer = L.Trainer(
        accelerator=resolve_accelerator(config),
        devices=_devices(config),
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        precision=resolve_precision(config),  # type: ignore[arg-type]
        max_epochs=-1 if config.max_epochs is None else config.max_epochs,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        gradient_clip_val=config.gradient_clip_norm,
        accumulate_grad_batches=config.accumulate_grad_batches,
        check_val_every_n_epoch=None if by_steps else _epochs_between(config),
        val_check_interval=NEVER if by_steps else None,  # the callback Milestones decides
        limit_train_batches=config.limit_train_batches,
        limit_val_batches=config.limit_val_batches,
        limit_test_batches=config.limit_test_batches,
        log_every_n_steps=0,  # the callback TrainingCurve logs instead
        deterministic=config.deterministic or None,  # False would import the compiler, which takes seconds
        profiler=build_profiler(config.profiler, run_dir) if config.profiler and run_dir else None,
        num_sanity_val_steps=1,
        fast_dev_run=fast_dev_run,
        use_distributed_sampler=False,  # the datamodules shard, without padding evaluation
        logger=[*loggers, *more_loggers],
        callbacks=[*callbacks, *more],
        plugins=[checkpoint_io or AtomicCheckpointIO()],
        enable_checkpointing=any(isinstance(c, Checkpoints) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run_dir,
    )
    skip_empty_hooks(trainer)
    return trainer


def _epochs_between(config: TrainerConfig) -> int:
    """Return the epochs between two validations, at most the epochs of the fit."""
    return min(config.check_val_every_n_epoch, config.max_epochs or config.check_val_every_n_epoch)


def _devices(config: TrainerConfig) -> Any:
    if config.devices != "auto":
        return config.devices
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"])  # as torchrun started them
    # On a CPU, "auto" is one process: it uses all cores, and several would only share them.
    return 1 if resolve_accelerator(config) == "cpu" else "auto"


@contextlib.contextmanager
def global_state_kept() -> Iterator[None]:
    """Restore the global switches that a deterministic Trainer sets."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        now = torch.are_deterministic_algorithms_enabled()
        if (now, torch.is_deterministic_algorithms_warn_only_enabled()) != (deterministic, warn_only):
            # Called only when needed: it imports the compiler, which takes seconds.
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
