"""The `trainer` section of a config: how long, on what, how precisely, and what is kept."""

from dataclasses import dataclass

from datamodules.setting import setting

PRECISIONS = ("auto", "32-true", "64-true", "16-true", "16-mixed", "bf16-true", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


@dataclass(kw_only=True)
class TrainerConfig:
    """Length, hardware, precision, regularity and record-keeping of one fit."""

    max_epochs: int | None = setting(
        10, "Passes over the training set; null: as many as max_steps takes.", min=1, resume="free"
    )
    max_steps: int | None = setting(
        None, "Stop after this many optimizer steps, if sooner.", min=1, resume="free"
    )
    max_minutes: float | None = setting(
        None,
        "Stop after this much time, if sooner, validation included; the schedule knows nothing of it.",
        above=0,
        resume="free",
    )
    accelerator: str = setting("auto", "Kind of device to train on.", choices=ACCELERATORS, resume="free")
    devices: int | list[int] | str = setting(
        "auto",
        "How many devices, a list of their indices, or auto: one process's worth on a CPU.",
        resume="free",
    )
    num_nodes: int = setting(1, "How many machines take part.", min=1, resume="free")
    strategy: str = setting(
        "auto",
        "How several devices share the work.",
        choices=(
            "auto",
            "ddp",
            "ddp_find_unused_parameters_true",
            "fsdp",
        ),
        resume="free",
    )
    precision: str = setting(
        "auto",
        "Number format; auto is bf16-mixed where the hardware is fast at it, else 32-true.",
        choices=PRECISIONS,
    )
    gradient_clip_norm: float | None = setting(
        None, "Scale gradients down to at most this global norm.", above=0
    )
    accumulate_grad_batches: int = setting(1, "Batches whose gradients are summed before a step.", min=1)
    ema_decay: float | None = setting(
        None,
        "Evaluate and keep a moving average of the weights that decays by this per step.",
        min=0,
        below=1,
    )
    early_stopping_patience: int | None = setting(
        None, "Stop after this many validations without a better monitored metric.", min=1, resume="free"
    )
    monitor: str = setting("val/loss", "The validation metric that chooses the best checkpoint.")
    monitor_mode: str = setting("min", "Whether less or more of it is better.", choices=("min", "max"))
    check_val_every_n_epoch: int = setting(1, "Epochs between two validations.", min=1)
    check_val_every_n_steps: int | None = setting(
        None, "Optimizer steps between two validations, whatever the epochs.", min=1
    )
    limit_train_batches: int | None = setting(None, "Use only this many training batches per epoch.", min=1)
    limit_val_batches: int | None = setting(None, "Use only this many validation batches.", min=1)
    limit_test_batches: int | None = setting(None, "Use only this many test batches.", min=1, resume="free")
    checkpoint_every_n_steps: int | None = setting(
        None, "Also save last.ckpt every so many steps within an epoch.", min=1, resume="free"
    )
    log_every_n_steps: int = setting(50, "Steps between two points of a training curve.", min=1)
    dashboard: bool = setting(
        True, "Draw the model's TensorBoard pictures, not its scalars alone.", resume="free"
    )
    progress_bar: bool = setting(
        True, "Show progress: a bar in a terminal, plain lines elsewhere.", resume="free"
    )
    compile: bool = setting(
        False, "torch.compile the network: a slow start, then faster steps.", resume="free"
    )
    deterministic: bool = setting(False, "Refuse operations whose result may differ between two runs.")
    profiler: str | None = setting(
        None, "Measure where the time goes.", choices=("simple", "advanced", "pytorch"), resume="free"
    )

    def __post_init__(self) -> None:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("max_epochs and max_steps are both null; the schedule needs one of them")
        if self.check_val_every_n_steps is not None and self.check_val_every_n_epoch != 1:
            raise ValueError(
                f"check_val_every_n_steps = {self.check_val_every_n_steps} and check_val_every_n_epoch = "
                f"{self.check_val_every_n_epoch}: leave one of them out"
            )
        least, numbers = (0, self.devices) if isinstance(self.devices, list) else (1, [self.devices])
        if self.devices != "auto" and not (
            numbers and all(isinstance(n, int) and n >= least for n in numbers)
        ):
            raise ValueError(
                f"devices: {self.devices!r}; allowed: auto, a number ≥ 1 or a list of indices such as [0, 1]"
            )
