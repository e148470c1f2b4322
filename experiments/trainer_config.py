"""The ``trainer`` section of a config: how long, on what, how precisely, and what is kept."""

from dataclasses import dataclass, field

PRECISIONS = ("auto", "32-true", "64-true", "16-true", "16-mixed", "bf16-true", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


@dataclass(kw_only=True)
class TrainerConfig:
    """Length, hardware, precision, regularity and record-keeping of one fit."""

    max_epochs: int | None = field(
        default=10,
        metadata={"help": "Passes over the training set; null: as many as max_steps takes.", "min": 1},
    )
    max_steps: int | None = field(
        default=None, metadata={"help": "Stop after this many optimizer steps, if sooner.", "min": 1}
    )
    max_minutes: float | None = field(
        default=None,
        metadata={
            "help": "Stop after this much time, if sooner, validation included; the schedule knows nothing of"
            " it.",
            "above": 0,
        },
    )
    accelerator: str = field(
        default="auto", metadata={"help": "Kind of device to train on.", "choices": ACCELERATORS}
    )
    devices: int | list[int] | str = field(
        default="auto",
        metadata={
            "help": "How many devices, a list of their indices, or auto: one process's worth on a CPU."
        },
    )
    num_nodes: int = field(default=1, metadata={"help": "How many machines take part.", "min": 1})
    strategy: str = field(
        default="auto",
        metadata={
            "help": "How several devices share the work.",
            "choices": (
                "auto",
                "ddp",
                "ddp_find_unused_parameters_true",
                "fsdp",
            ),
        },
    )
    precision: str = field(
        default="auto",
        metadata={
            "help": "Number format; auto is bf16-mixed where the hardware is fast at it, else 32-true.",
            "choices": PRECISIONS,
        },
    )
    gradient_clip_norm: float | None = field(
        default=None, metadata={"help": "Scale gradients down to at most this global norm.", "above": 0}
    )
    accumulate_grad_batches: int = field(
        default=1, metadata={"help": "Batches whose gradients are summed before a step.", "min": 1}
    )
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Evaluate and keep a moving average of the weights that decays by this per step.",
            "min": 0,
            "below": 1,
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this many validations without a better monitored metric.", "min": 1},
    )
    monitor: str = field(
        default="val/loss", metadata={"help": "The validation metric that chooses the best checkpoint."}
    )
    monitor_mode: str = field(
        default="min", metadata={"help": "Whether less or more of it is better.", "choices": ("min", "max")}
    )
    check_val_every_n_epoch: int = field(
        default=1, metadata={"help": "Epochs between two validations.", "min": 1}
    )
    check_val_every_n_steps: int | None = field(
        default=None,
        metadata={"help": "Optimizer steps between two validations, whatever the epochs.", "min": 1},
    )
    limit_train_batches: int | None = field(
        default=None, metadata={"help": "Use only this many training batches per epoch.", "min": 1}
    )
    limit_val_batches: int | None = field(
        default=None, metadata={"help": "Use only this many validation batches.", "min": 1}
    )
    limit_test_batches: int | None = field(
        default=None, metadata={"help": "Use only this many test batches.", "min": 1}
    )
    checkpoint_every_n_steps: int | None = field(
        default=None, metadata={"help": "Also save last.ckpt every so many steps within an epoch.", "min": 1}
    )
    log_every_n_steps: int = field(
        default=50, metadata={"help": "Steps between two points of a training curve.", "min": 1}
    )
    dashboard: bool = field(
        default=True, metadata={"help": "Draw the model's TensorBoard pictures, not its scalars alone."}
    )
    progress_bar: bool = field(
        default=True, metadata={"help": "Show progress: a bar in a terminal, plain lines elsewhere."}
    )
    compile: bool = field(
        default=False, metadata={"help": "torch.compile the network: a slow start, then faster steps."}
    )
    deterministic: bool = field(
        default=False, metadata={"help": "Refuse operations whose result may differ between two runs."}
    )
    profiler: str | None = field(
        default=None,
        metadata={"help": "Measure where the time goes.", "choices": ("simple", "advanced", "pytorch")},
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
