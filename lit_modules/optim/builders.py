"""Optimizers and learning-rate schedules by name, parameter groups, and clipping of the gradient's norm."""

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_modules.configs.optim import (
    AdadeltaConfig,
    AdamConfig,
    AdamWConfig,
    ConstantConfig,
    MuonConfig,
    OneCycleConfig,
    SGDConfig,
    StepDecayConfig,
    WarmupCosineConfig,
    WarmupLinearConfig,
)
from lit_modules.optim.adamw import AdamW
from lit_modules.optim.muon import Muon
from lit_modules.optim.schedules import cosine, linear, one_cycle, warmup

Parameters = dict[str, nn.Parameter]

_UNDECAYED_OWNER = re.compile(r"(Norm(\dd)?|Embedding(Bag)?)$")


def split_parameters(module: nn.Module) -> tuple[Parameters, Parameters]:
    """Separate the trainable parameters that weight decay should shrink from those that it should not.

    Decay regularises the maps between layers. On a norm's gain, a bias or an embedding it only moves the
    scale that the network has chosen (an embedding's rows would also shrink while their tokens are absent).
    Undecayed is what has fewer than two dimensions, is called a bias, or belongs to a class named for a norm
    or an embedding; a weight shared between an embedding and an output layer counts as an embedding.

    Args:
        module: Any module; parameters that don't require a gradient are left out.

    Returns:
        Decayed and undecayed parameters, each by its first name in `module.named_parameters()`.
    """
    undecayed_ids = set()
    for owner in module.modules():
        exempt = any(_UNDECAYED_OWNER.search(base.__name__) for base in type(owner).__mro__)
        for name, parameter in owner.named_parameters(recurse=False):
            if exempt or parameter.ndim < 2 or name.startswith("bias"):
                undecayed_ids.add(id(parameter))
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    decayed = {name: parameter for name, parameter in trainable.items() if id(parameter) not in undecayed_ids}
    undecayed = {name: parameter for name, parameter in trainable.items() if id(parameter) in undecayed_ids}
    return decayed, undecayed


def _groups(
    decayed: Parameters, undecayed: Parameters, weight_decay: float, **options: Any
) -> list[dict[str, Any]]:
    groups = [
        {"params": list(decayed.values()), "weight_decay": weight_decay, **options},
        {"params": list(undecayed.values()), "weight_decay": 0.0, **options},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: object) -> Optimizer:
    """Make the optimizer that a config describes, over the parameters of a module that require a gradient.

    PyTorch's fused kernels are used where the device has them. Norms, biases and embeddings are not decayed
    (`split_parameters`).

    Args:
        module: What is trained.
        config: One of the optimizer configs of `lit_modules.configs.optim`, or of a type registered with
            `make_optimizer`.

    Returns:
        A single optimizer, whose groups hold every trainable parameter once.

    Raises:
        ValueError: Nothing in the module requires a gradient, or no optimizer is known for such a config.
    """
    decayed, undecayed = split_parameters(module)
    if not decayed and not undecayed:
        raise ValueError(
            f"{type(module).__name__} has no parameter that requires a gradient: nothing to optimize"
        )
    optimizer = make_optimizer(config, decayed, undecayed)
    # PyTorch's fused optimizers can unscale fp16 gradients themselves, and say so by this flag. Lightning
    # then refuses to clip under mixed precision, bf16 included. Without the flag the scaler unscales first.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


@singledispatch
def make_optimizer(config: object, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    """Make an optimizer of already separated parameters; `make_optimizer.register` adds a config's type.

    Args:
        config: Chooses the optimizer by its type.
        decayed: Parameters that weight decay applies to, by name.
        undecayed: Those that it doesn't apply to.

    Returns:
        The optimizer.

    Raises:
        ValueError: No optimizer is registered for such a config.
    """
    raise ValueError(f"no optimizer is known for a config of type {type(config).__name__}")


@make_optimizer.register
def _(config: SGDConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    return torch.optim.SGD(
        _groups(decayed, undecayed, config.weight_decay),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=_has_fused_kernel(decayed | undecayed),
    )


@make_optimizer.register
def _(config: AdamConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    return torch.optim.Adam(
        _groups(decayed, undecayed, config.weight_decay),
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        fused=_has_fused_kernel(decayed | undecayed),
    )


@make_optimizer.register
def _(config: AdamWConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    groups = _groups(decayed, undecayed, config.weight_decay)
    betas = (config.betas[0], config.betas[1])
    if config.implementation == "by_hand":
        return AdamW(groups, lr=config.lr, betas=betas, eps=config.eps)
    fused = _has_fused_kernel(decayed | undecayed)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=fused)


@make_optimizer.register
def _(config: AdadeltaConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    return torch.optim.Adadelta(_groups(decayed, undecayed, 0.0), lr=config.lr, rho=config.rho)


@make_optimizer.register
def _(config: MuonConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    def is_for_muon(name: str, parameter: nn.Parameter) -> bool:
        is_vector = parameter.numel() == max(
            parameter.shape
        )  # one row or one column: nothing to orthogonalise
        return not is_vector and not any(
            fnmatch.fnmatchcase(name, entry) for entry in config.adamw_parameters
        )

    matrices = {name: parameter for name, parameter in decayed.items() if is_for_muon(name, parameter)}
    others = {name: parameter for name, parameter in decayed.items() if name not in matrices}
    groups = _groups(matrices, {}, config.weight_decay, rule="muon", lr=config.lr)
    groups += _groups(others, undecayed, config.weight_decay, rule="adamw", lr=config.adamw_lr)
    return Muon(
        groups,
        momentum=config.momentum,
        newton_schulz_steps=config.newton_schulz_steps,
        betas=(config.adamw_betas[0], config.adamw_betas[1]),
        eps=config.adamw_eps,
        fused=bool(_has_fused_kernel(others | undecayed)),
    )


def _has_fused_kernel(parameters: Parameters) -> bool | None:
    """Whether all lie where PyTorch has fused kernels; `None` leaves the choice to PyTorch."""
    devices = {parameter.device.type for parameter in parameters.values()}
    return True if devices <= {"cpu", "cuda", "mps"} else None


@singledispatch
def build_schedule(config: object, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Make the function that a schedule config describes; `build_schedule.register` adds a config's type.

    The function depends on nothing but the step, so a resumed run needs no state to go on with it.

    Args:
        config: One of the schedule configs of `lit_modules.configs.optim`.
        total_steps: Optimizer steps in the whole fit; later steps keep the last factor.
        steps_per_epoch: Optimizer steps in an epoch.

    Returns:
        A function from the steps already taken to a factor on the learning rate, as `LambdaLR` takes it.

    Raises:
        ValueError: No schedule is known for such a config.
    """
    raise ValueError(f"no schedule is known for a config of type {type(config).__name__}")


@build_schedule.register
def _(config: ConstantConfig, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    return lambda step: 1.0


@build_schedule.register
def _(config: OneCycleConfig, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    first = 1.0 / config.initial_divisor
    return lambda step: one_cycle(
        step,
        total_steps=total_steps,
        warmup_fraction=config.warmup_fraction,
        first=first,
        last=first / config.final_divisor,
        anneal=cosine if config.anneal == "cosine" else linear,
    )


@build_schedule.register
def _(config: WarmupCosineConfig, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    warmup_steps = int(config.warmup_fraction * total_steps)
    return lambda step: warmup(
        step, total_steps=total_steps, warmup_steps=warmup_steps, last=config.final_factor, anneal=cosine
    )


@build_schedule.register
def _(config: WarmupLinearConfig, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    warmup_steps = int(config.warmup_fraction * total_steps)
    return lambda step: warmup(
        step, total_steps=total_steps, warmup_steps=warmup_steps, last=config.final_factor, anneal=linear
    )


@build_schedule.register
def _(config: StepDecayConfig, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    return lambda step: config.gamma ** (step // (steps_per_epoch * config.every_epochs))


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients down together, in place, until their joint Euclidean norm is at most `max_norm`.

    The direction is kept, and gradients within the bound are left as they are (Pascanu et al. 2013, algorithm
    1). Nothing waits for the device: the factor stays a tensor, and is 1 where there is nothing to clip.

    Args:
        parameters: Those without a gradient are skipped.
        max_norm: The bound.

    Returns:
        The norm before clipping, a scalar. One that isn't finite spoils the gradients, so look at it.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack([entry.to(norms[0].device) for entry in norms]))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))
    return norm
