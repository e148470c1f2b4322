"""Initialise the weights of a transformer."""

import torch.nn as nn

from lit_modules.configs.transformer import OutputInit, TransformerConfig
from lit_modules.layers.argument_checks import check_choice

_LAST_OF_A_BRANCH = ("attention.output", "feed_forward.down")


def draw_weights(network: nn.Module, config: TransformerConfig, *, kept: tuple[nn.Module, ...] = ()) -> None:
    """Draw normal weights with mean 0 in place; set biases to 0.

    `config.output_init` decides about the last matrix of each branch. With `scaled` its standard deviation is
    divided by √(2 · depth), so that the scale of the sum over all branches doesn't grow with the depth. With
    `zero` each branch starts as a no-op.

    Args:
        network: Its embeddings and linear layers are initialised.
        config: Standard deviations, depth and `output_init`.
        kept: Linear layers to leave unchanged.

    Raises:
        ValueError: Unknown `output_init`.

    Source: Radford et al. 2019, section 2.3; Zhang et al. 2019, "Fixup" (zero branches).
    """
    check_choice("output_init", config.output_init, OutputInit)
    branch_factor = 0.0 if config.output_init == "zero" else (2 * config.depth) ** -0.5
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=config.embedding_std)
        elif isinstance(module, nn.Linear) and not any(module is layer for layer in kept):
            std = matrix_std(module, config)
            nn.init.normal_(
                module.weight, std=std * branch_factor if name.endswith(_LAST_OF_A_BRANCH) else std
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def matrix_std(layer: nn.Linear, config: TransformerConfig) -> float:
    """Return the standard deviation of an initial matrix: `config.linear_std`, or ½ / √inputs."""
    return 0.5 * layer.in_features**-0.5 if config.linear_std is None else config.linear_std
