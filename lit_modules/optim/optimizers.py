"""Optimizers by the type of their config."""

import fnmatch
from functools import singledispatch

import torch
from torch import nn
from torch.optim import Optimizer

from lit_modules.configs.optim import AdadeltaConfig, AdamConfig, AdamWConfig, MuonConfig, SGDConfig
from lit_modules.optim.adam import Adam
from lit_modules.optim.adamw import AdamW
from lit_modules.optim.muon import Muon
from lit_modules.optim.parameter_groups import Parameters, parameter_groups, split_parameters
from lit_modules.optim.sgd import SGD


def build_optimizer(module: nn.Module, config: object) -> Optimizer:
    """Build the optimizer of a config over the trainable parameters of a module.

    It uses PyTorch's fused kernels if the device has them. Norms, biases and embeddings have no weight decay
    (`split_parameters`).

    Args:
        module: The module to train.
        config: An optimizer config of `lit_modules.configs.optim`, or of a type that was registered with
            `make_optimizer`.

    Returns:
        One optimizer with every trainable parameter in exactly one group.

    Raises:
        ValueError: The module has no trainable parameter, or the type of the config is unknown.
    """
    decayed, undecayed = split_parameters(module)
    if not decayed and not undecayed:
        raise ValueError(
            f"{type(module).__name__} has no parameter that requires a gradient: nothing to optimize"
        )
    optimizer = make_optimizer(config, decayed, undecayed)
    # PyTorch's fused optimizers can unscale fp16 gradients themselves and announce it by this flag. Lightning
    # then refuses to clip under any mixed precision. Without the flag the scaler unscales first.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


@singledispatch
def make_optimizer(config: object, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    """Build an optimizer from split parameters; `make_optimizer.register` adds a type of config.

    Args:
        config: The config; its type chooses the optimizer.
        decayed: Parameters with weight decay, by name.
        undecayed: Parameters without weight decay, by name.

    Raises:
        ValueError: No optimizer is registered for this type of config.
    """
    raise ValueError(f"no optimizer is known for a config of type {type(config).__name__}")


@make_optimizer.register
def _(config: SGDConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    groups = parameter_groups(decayed, undecayed, config.weight_decay)
    if config.implementation == "by_hand":
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=_has_fused_kernel(decayed | undecayed),
    )


@make_optimizer.register
def _(config: AdamConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    groups = parameter_groups(decayed, undecayed, config.weight_decay)
    betas = (config.betas[0], config.betas[1])
    if config.implementation == "by_hand":
        return Adam(groups, lr=config.lr, betas=betas, eps=config.eps)
    fused = _has_fused_kernel(decayed | undecayed)
    return torch.optim.Adam(groups, lr=config.lr, betas=betas, eps=config.eps, fused=fused)


@make_optimizer.register
def _(config: AdamWConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    groups = parameter_groups(decayed, undecayed, config.weight_decay)
    betas = (config.betas[0], config.betas[1])
    if config.implementation == "by_hand":
        return AdamW(groups, lr=config.lr, betas=betas, eps=config.eps)
    fused = _has_fused_kernel(decayed | undecayed)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=fused)


@make_optimizer.register
def _(config: AdadeltaConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    return torch.optim.Adadelta(parameter_groups(decayed, undecayed, 0.0), lr=config.lr, rho=config.rho)


@make_optimizer.register
def _(config: MuonConfig, decayed: Parameters, undecayed: Parameters) -> Optimizer:
    def is_for_muon(name: str, parameter: nn.Parameter) -> bool:
        is_vector = parameter.numel() == max(parameter.shape)  # a single row or column can't be orthogonal
        return not is_vector and not any(
            fnmatch.fnmatchcase(name, pattern) for pattern in config.adamw_parameters
        )

    matrices = {name: parameter for name, parameter in decayed.items() if is_for_muon(name, parameter)}
    others = {name: parameter for name, parameter in decayed.items() if name not in matrices}
    groups = parameter_groups(matrices, {}, config.weight_decay, rule="muon", lr=config.lr)
    groups += parameter_groups(others, undecayed, config.weight_decay, rule="adamw", lr=config.adamw_lr)
    return Muon(
        groups,
        momentum=config.momentum,
        newton_schulz_steps=config.newton_schulz_steps,
        betas=(config.adamw_betas[0], config.adamw_betas[1]),
        eps=config.adamw_eps,
        fused=bool(_has_fused_kernel(others | undecayed)) and config.implementation == "fused",
        by_hand=config.implementation == "by_hand",
    )


def _has_fused_kernel(parameters: Parameters) -> bool | None:
    """Tell whether PyTorch has fused kernels on all devices; `None` leaves the choice to PyTorch."""
    devices = {parameter.device.type for parameter in parameters.values()}
    return True if devices <= {"cpu", "cuda", "mps"} else None
