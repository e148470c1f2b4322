"""How a transformer's fresh weights are drawn."""

from typing import Literal

import torch.nn as nn

from lit_modules.layers.argument_checks import check_choice

OutputInit = Literal["scaled", "zero"]

_LAST_OF_A_BRANCH = ("attention.output", "feed_forward.down")


def draw_weights(
    network: nn.Module,
    *,
    depth: int,
    embedding_std: float = 0.02,
    linear_std: float | None = 0.02,
    output_init: OutputInit = "scaled",
    kept: tuple[nn.Module, ...] = (),
) -> None:
    """Draws fresh weights, normal around 0; biases start at 0, norms as the identity.

    Args:
        network: Its embeddings, linear layers and the last matrices of its branches, by their names.
        depth: Layers whose branches are summed up.
        embedding_std: Of tokens' and positions' vectors.
        linear_std: Of matrices; None for ½ / √inputs.
        output_init: The last matrix of each branch has that over √(2 · depth), so that the sum of all
            branches has a scale that doesn't grow with depth, or is zero.
        kept: Layers of it that stay as they are.

    Source: Radford et al. 2019, section 2.3; Zhang et al. 2019, "Fixup" (zero branches).
    """
    check_choice("output_init", output_init, OutputInit)
    branch_factor = 0.0 if output_init == "zero" else (2 * depth) ** -0.5
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=embedding_std)
        elif isinstance(module, nn.Linear) and not any(module is layer for layer in kept):
            std = matrix_std(module, linear_std)
            nn.init.normal_(
                module.weight, std=std * branch_factor if name.endswith(_LAST_OF_A_BRANCH) else std
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def matrix_std(layer: nn.Linear, linear_std: float | None) -> float:
    """The standard deviation of a fresh matrix; None for ½ / √inputs."""
    return 0.5 * layer.in_features**-0.5 if linear_std is None else linear_std
