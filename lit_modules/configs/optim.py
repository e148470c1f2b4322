"""Schemas of the optimizers and the learning-rate schedules; importing them imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from datamodules.setting import setting

Implementation = Literal["fused", "by_hand"]


LARGEST_RATE = 1e4
"""Largest learning rate and weight decay; far larger ones overflow single precision in one step."""


def _learning_rate(default: float) -> Any:
    return setting(default, "Peak learning rate; the schedule scales it.", above=0.0, max=LARGEST_RATE)


def _weight_decay(default: float, how: str) -> Any:
    text = f"{how} Norms, biases and embeddings have no decay."
    return setting(default, text, min=0.0, max=LARGEST_RATE)


def _eps() -> Any:
    text = "Constant added to the denominator for numerical stability."
    return setting(1e-8, text, above=0.0, max=1.0)


def _betas() -> Any:
    text = "Decay rates of the running means of the gradient and its square."
    return setting([0.9, 0.999], text, min=0.0, below=1.0)


def _implementation() -> Any:
    text = "PyTorch's fused kernel, or the formula by hand, which takes the same steps several times slower."
    return setting("fused", text)


def _require_two_betas(betas: list[float]) -> None:
    if len(betas) != 2:
        raise ValueError(f"betas: {betas} has {len(betas)} entries, expected 2")


_L2 = "Strength of the L2 penalty: weight_decay × weight is added to the gradient."
_DECOUPLED = "Decoupled decay: each step multiplies a weight by 1 − lr × weight_decay."


@dataclass(kw_only=True)
class SGDConfig:
    """Stochastic gradient descent, with or without (Nesterov) momentum."""

    lr: float = _learning_rate(0.1)
    momentum: float = setting(0.0, "Decay rate of the accumulated gradient.", min=0.0, below=1.0)
    nesterov: bool = setting(False, "Nesterov momentum; needs momentum above 0.")
    weight_decay: float = _weight_decay(0.0, _L2)
    implementation: Implementation = _implementation()

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov: true needs momentum above 0, but it is 0.0")


@dataclass(kw_only=True)
class AdamConfig:
    """Adam: steps scaled by running means of the gradient and its square (Kingma & Ba 2015)."""

    lr: float = _learning_rate(1e-3)
    betas: list[float] = _betas()
    eps: float = _eps()
    weight_decay: float = _weight_decay(0.0, _L2 + " Adam scales it like the gradient; adamw does not.")
    implementation: Implementation = _implementation()

    def __post_init__(self) -> None:
        _require_two_betas(self.betas)


@dataclass(kw_only=True)
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    lr: float = _learning_rate(1e-3)
    betas: list[float] = _betas()
    eps: float = _eps()
    weight_decay: float = _weight_decay(0.01, _DECOUPLED)
    implementation: Implementation = _implementation()

    def __post_init__(self) -> None:
        _require_two_betas(self.betas)


@dataclass(kw_only=True)
class AdadeltaConfig:
    """Adadelta: steps scaled by the ratio of two running means (Zeiler 2012)."""

    lr: float = _learning_rate(1.0)
    rho: float = setting(0.9, "Decay rate of the running means of the squares.", min=0.0, below=1.0)


@dataclass(kw_only=True)
class MuonConfig:
    """Muon for hidden matrices and convolution filters, AdamW for all else (Jordan et al. 2024)."""

    lr: float = setting(
        0.02, "Peak learning rate of Muon; the schedule scales it.", above=0.0, max=LARGEST_RATE
    )
    momentum: float = setting(0.95, "Decay rate of the running mean of the gradient.", min=0.0, below=1.0)
    weight_decay: float = _weight_decay(0.0, _DECOUPLED)
    newton_schulz_steps: int = setting(
        5, "Number of Newton–Schulz iterations; each costs time.", min=1, max=100
    )
    adamw_lr: float = setting(1e-3, "Peak learning rate of AdamW.", above=0.0, max=LARGEST_RATE)
    adamw_betas: list[float] = _betas()
    adamw_eps: float = _eps()
    adamw_parameters: list[str] = setting(
        ["*head.weight"],
        "Shell-style patterns of the names of matrices that AdamW trains, such as the output layer. AdamW "
        "always trains embeddings and parameters that are not matrices.",
    )
    implementation: Implementation = setting(
        "fused", "PyTorch's fused AdamW beside our Muon, or AdamW by hand too; both take the same steps."
    )

    def __post_init__(self) -> None:
        if len(self.adamw_betas) != 2:
            raise ValueError(
                f"adamw_betas: {self.adamw_betas} has {len(self.adamw_betas)} entries, expected 2"
            )


OptimizerConfig = SGDConfig | AdamConfig | AdamWConfig | AdadeltaConfig | MuonConfig


def _warmup_fraction(default: float) -> Any:
    text = "Share of all steps in which the learning rate rises to its peak."
    return setting(default, text, min=0.0, max=1.0)


def _final_factor() -> Any:
    text = "Final learning rate as a share of the peak."
    return setting(0.0, text, min=0.0, max=1.0)


@dataclass(kw_only=True)
class ConstantConfig:
    """A constant learning rate."""


@dataclass(kw_only=True)
class OneCycleConfig:
    """A rise to the peak, then a fall far below the start (Smith & Topin 2018)."""

    warmup_fraction: float = _warmup_fraction(0.3)
    anneal: Literal["cosine", "linear"] = setting("cosine", "Shape of the rise and the fall.")
    initial_divisor: float = setting(25.0, "Peak learning rate divided by the first one.", min=1.0, max=1e12)
    final_divisor: float = setting(1e4, "First learning rate divided by the last one.", min=1.0, max=1e12)


@dataclass(kw_only=True)
class WarmupCosineConfig:
    """A linear warm-up, then a fall along half a cosine (Loshchilov & Hutter 2017)."""

    warmup_fraction: float = _warmup_fraction(0.05)
    final_factor: float = _final_factor()


@dataclass(kw_only=True)
class WarmupLinearConfig:
    """A linear warm-up, then a linear fall."""

    warmup_fraction: float = _warmup_fraction(0.05)
    final_factor: float = _final_factor()


@dataclass(kw_only=True)
class StepDecayConfig:
    """A learning rate that is multiplied by `gamma` every `every_epochs` epochs."""

    gamma: float = setting(0.7, "Factor of each decay.", above=0.0, max=1.0)
    every_epochs: int = setting(1, "Number of epochs between two decays.", min=1)


ScheduleConfig = ConstantConfig | OneCycleConfig | WarmupCosineConfig | WarmupLinearConfig | StepDecayConfig
