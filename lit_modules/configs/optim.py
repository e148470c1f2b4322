"""Schemas of the optimizers and schedules that a config names; `optim.py` builds what they describe.

`OptimizerConfig` and `ScheduleConfig` are the unions that `build_optimizer` and `build_schedule` take.
"""

from dataclasses import dataclass
from typing import Any, Literal

from datamodules.setting import setting


def _learning_rate(default: float) -> Any:
    return setting(default, "Peak learning rate; the schedule scales it.", above=0.0)


def _weight_decay(default: float, how: str) -> Any:
    text = f"{how} Norms, biases and embeddings are left out."
    return setting(default, text, min=0.0)


def _eps() -> Any:
    text = "Added to the root of the second moment, so that tiny gradients don't take full steps."
    return setting(1e-8, text, above=0.0)


def _betas() -> Any:
    text = "Decay rates of the running means of the gradient and of its square."
    return setting([0.9, 0.999], text, min=0.0, below=1.0)


def _require_two_betas(betas: list[float]) -> None:
    if len(betas) != 2:
        raise ValueError(f"betas: {betas} has {len(betas)} entries, expected 2")


_L2 = "Strength of the L2 penalty, added to the gradient as weight_decay × weight."
_DECOUPLED = "Decoupled decay: each step shrinks a weight by lr × weight_decay of itself."


@dataclass(kw_only=True)
class SGDConfig:
    """Stochastic gradient descent, with or without (Nesterov) momentum."""

    lr: float = _learning_rate(0.1)
    momentum: float = setting(0.0, "Share of the last update that is kept.", min=0.0, below=1.0)
    nesterov: bool = setting(False, "Look ahead along the momentum; needs momentum > 0.")
    weight_decay: float = _weight_decay(0.0, _L2)

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov: true with momentum 0.0, expected a momentum above 0")


@dataclass(kw_only=True)
class AdamConfig:
    """Adam: steps scaled by running means of the gradient and of its square (Kingma & Ba 2015)."""

    lr: float = _learning_rate(1e-3)
    betas: list[float] = _betas()
    eps: float = _eps()
    weight_decay: float = _weight_decay(0.0, _L2 + " Adam rescales it with the gradient; adamw does not.")

    def __post_init__(self) -> None:
        _require_two_betas(self.betas)


@dataclass(kw_only=True)
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    lr: float = _learning_rate(1e-3)
    betas: list[float] = _betas()
    eps: float = _eps()
    weight_decay: float = _weight_decay(0.01, _DECOUPLED)
    implementation: Literal["fused", "by_hand"] = setting(
        "fused", "PyTorch's fused kernel, or ours for reading: same steps, several times slower."
    )

    def __post_init__(self) -> None:
        _require_two_betas(self.betas)


@dataclass(kw_only=True)
class AdadeltaConfig:
    """Adadelta: steps scaled by the ratio of two running means (Zeiler 2012)."""

    lr: float = _learning_rate(1.0)
    rho: float = setting(0.9, "Decay rate of the running means of squares.", min=0.0, below=1.0)


@dataclass(kw_only=True)
class MuonConfig:
    """Muon for hidden matrices and convolution filters, AdamW for everything else (Jordan et al. 2024)."""

    lr: float = setting(0.02, "Peak learning rate of Muon; the schedule scales it.", above=0.0)
    momentum: float = setting(0.95, "Decay rate of Muon's running mean of the gradient.", min=0.0, below=1.0)
    weight_decay: float = _weight_decay(0.0, _DECOUPLED)
    newton_schulz_steps: int = setting(
        5, "Iterations that push singular values towards one; each costs time.", min=1
    )
    adamw_lr: float = setting(1e-3, "Peak learning rate of the weights that AdamW trains.", above=0.0)
    adamw_betas: list[float] = _betas()
    adamw_eps: float = _eps()
    adamw_parameters: list[str] = setting(
        ["*head.weight"],
        "Shell-style patterns of parameter names; AdamW trains these matrices, as it does "
        "embeddings and whatever is not a matrix. Meant for the output layer.",
    )

    def __post_init__(self) -> None:
        if len(self.adamw_betas) != 2:
            raise ValueError(
                f"adamw_betas: {self.adamw_betas} has {len(self.adamw_betas)} entries, expected 2"
            )


OptimizerConfig = SGDConfig | AdamConfig | AdamWConfig | AdadeltaConfig | MuonConfig


def _warmup_fraction(default: float) -> Any:
    text = "Share of all steps in which the learning rate climbs to its peak."
    return setting(default, text, min=0.0, max=1.0)


def _final_factor() -> Any:
    text = "Learning rate at the end, as a share of the peak."
    return setting(0.0, text, min=0.0, max=1.0)


@dataclass(kw_only=True)
class ConstantConfig:
    """The same learning rate at every step."""


@dataclass(kw_only=True)
class OneCycleConfig:
    """Up to the peak and down again far below the start (Smith & Topin 2018)."""

    warmup_fraction: float = _warmup_fraction(0.3)
    anneal: Literal["cosine", "linear"] = setting("cosine", "Shape of the climb and of the descent.")
    initial_divisor: float = setting(
        25.0, "The first step's learning rate is the peak divided by this.", min=1.0
    )
    final_divisor: float = setting(
        1e4, "The last step's learning rate is the first one divided by this.", min=1.0
    )


@dataclass(kw_only=True)
class WarmupCosineConfig:
    """Linear warm-up, then half a cosine down (Loshchilov & Hutter 2017)."""

    warmup_fraction: float = _warmup_fraction(0.05)
    final_factor: float = _final_factor()


@dataclass(kw_only=True)
class WarmupLinearConfig:
    """Linear warm-up, then a straight line down."""

    warmup_fraction: float = _warmup_fraction(0.05)
    final_factor: float = _final_factor()


@dataclass(kw_only=True)
class StepDecayConfig:
    """The learning rate is multiplied by `gamma` after every `every_epochs` epochs."""

    gamma: float = setting(0.7, "What the learning rate is multiplied by.", above=0.0, max=1.0)
    every_epochs: int = setting(1, "Epochs between two decays.", min=1)


ScheduleConfig = ConstantConfig | OneCycleConfig | WarmupCosineConfig | WarmupLinearConfig | StepDecayConfig
