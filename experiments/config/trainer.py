"""The schema of the section `trainer`: length, hardware, precision, validation and records of a fit."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting

PRECISIONS = ("auto", "32-true", "64-true", "16-true", "16-mixed", "bf16-true", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


@dataclass(kw_only=True)
class TrainerConfig:
    """Length, hardware, precision, validation and records of one fit."""

    max_epochs: int | None = setting(
        10, "Number of epochs; null: as many as max_steps needs.", min=1, resume="free"
    )
    max_steps: int | None = setting(
        None, "Largest number of optimizer steps; max_epochs may end the fit earlier.", min=1, resume="free"
    )
    max_minutes: float | None = setting(
        None,
        "Time limit, including validation. The learning-rate schedule ignores it.",
        above=0,
        resume="free",
        max=1e7,
    )
    accelerator: str = setting("auto", "Kind of device to train on.", choices=ACCELERATORS, resume="free")
    devices: int | list[int] | str = setting(
        "auto",
        "Number of devices, or a list of their indices; auto: all GPUs, or one process on a CPU.",
        resume="free",
    )
    num_nodes: int = setting(1, "Number of machines.", min=1, resume="free", max=10000)
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
        "Number format; auto: bf16-mixed if the hardware is fast at it, else 32-true.",
        choices=PRECISIONS,
    )
    gradient_clip_norm: float | None = setting(
        None, "Largest global norm of the gradients; larger gradients are scaled down.", above=0
    )
    accumulate_grad_batches: int = setting(
        1,
        "Number of batches per optimizer step; their gradients are averaged, with equal weights.",
        min=1,
    )
    ema_decay: float | None = setting(
        None,
        "Decay per step of an exponential moving average of the weights, which is then evaluated and saved.",
        min=0,
        below=1,
    )
    early_stopping_patience: int | None = setting(
        None,
        "Stop after this many validations without an improvement of the monitored metric.",
        min=1,
        resume="free",
    )
    monitor: str = setting("val/loss", "Validation metric that selects the best checkpoint.")
    monitor_mode: str = setting(
        "min", "Whether a smaller or a larger value of the metric is better.", choices=("min", "max")
    )
    check_val_every_n_epoch: int = setting(1, "Epochs between validations.", min=1)
    check_val_every_n_steps: int | None = setting(
        None, "Optimizer steps between validations, instead of epochs.", min=1
    )
    limit_train_batches: int | None = setting(None, "Largest number of training batches per epoch.", min=1)
    limit_val_batches: int | None = setting(None, "Largest number of validation batches.", min=1)
    limit_test_batches: int | None = setting(None, "Largest number of test batches.", min=1, resume="free")
    checkpoint_every_n_steps: int | None = setting(
        None,
        "Steps between checkpoints within an epoch; null: save at validations only.",
        min=1,
        resume="free",
    )
    log_every_n_steps: int = setting(50, "Steps between two points of a training curve.", min=1)
    measure: list[str] = setting(
        [],
        "What else to measure. layer_gradients: the gradient norm of each weight matrix. mistake_gradients: "
        "the gradient at the confident mistakes of a classifier. class_curves: its recall by class and its "
        "accuracy by confidence, on the test split. histograms: weights and gradients, and graph: the "
        "model's operations, both in TensorBoard. Of a transformer language model, loss_by_position: the "
        "loss at each position of a window; decoding: bytes per token of its cache, and its speed.",
        choices=(
            "layer_gradients",
            "mistake_gradients",
            "class_curves",
            "histograms",
            "graph",
            "loss_by_position",
            "decoding",
        ),
    )
    dashboard: bool = setting(
        True, "Draw pictures in TensorBoard, in addition to the scalars.", resume="free"
    )
    progress_bar: bool = setting(
        True, "Show a progress bar in a terminal, or plain lines elsewhere.", resume="free"
    )
    compile: bool | Literal["cuda-graph", "reduce-overhead"] = setting(
        False,
        "true compiles the network with torch.compile: a slow start, then faster steps. cuda-graph records "
        "the kernels of the forward and backward pass once, and each step launches them together: nothing is "
        "compiled, and small networks train several times as fast. reduce-overhead does both. The last two "
        "need one CUDA GPU.",
        resume="free",
    )
    deterministic: bool = setting(False, "Raise an error at an operation that is not deterministic.")
    profiler: str | None = setting(
        None,
        "Measure where the time goes: simple: each hook; advanced: each Python function; pytorch: each "
        "operation, with a trace. The table is printed and is in profile/ of the run directory.",
        choices=("simple", "advanced", "pytorch"),
        resume="free",
    )

    def __post_init__(self) -> None:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("max_epochs and max_steps are both null; the schedule needs one of them")
        if self.check_val_every_n_steps is not None and self.check_val_every_n_epoch != 1:
            raise ValueError(
                f"check_val_every_n_steps = {self.check_val_every_n_steps} and check_val_every_n_epoch = "
                f"{self.check_val_every_n_epoch}: set only one of them"
            )
        if isinstance(self.compile, str) and self.accumulate_grad_batches > 1:
            raise ValueError(
                f"compile: {self.compile} isn't possible with accumulate_grad_batches = "
                f"{self.accumulate_grad_batches}, because a replayed graph overwrites its gradients; use true"
            )
        if isinstance(self.compile, str) and self.precision == "16-mixed":
            raise ValueError(
                f"compile: {self.compile} isn't possible with precision 16-mixed, whose loss is scaled "
                "between forward and backward pass; use bf16-mixed"
            )
        least, numbers = (0, self.devices) if isinstance(self.devices, list) else (1, [self.devices])
        if self.devices != "auto" and not (
            numbers and all(isinstance(n, int) and n >= least for n in numbers)
        ):
            raise ValueError(
                f"devices: {self.devices!r}; allowed: auto, a number ≥ 1 or a list of indices such as [0, 1]"
            )
