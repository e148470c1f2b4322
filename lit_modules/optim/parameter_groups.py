"""Parameter groups: which parameters weight decay applies to."""

import re
from typing import Any

from torch import nn

Parameters = dict[str, nn.Parameter]
"""Parameters by their names in the module."""

_UNDECAYED_OWNER = re.compile(r"(Norm(\dd)?|Embedding(Bag)?)$")


def split_parameters(module: nn.Module) -> tuple[Parameters, Parameters]:
    """Split the trainable parameters into those with and without weight decay.

    Decay regularises the maps between layers. On a norm's gain, a bias or an embedding it would only change
    a scale that the network has chosen, and it would shrink the embeddings of tokens that are absent from a
    batch. No decay applies to a parameter that has fewer than two dimensions, is named bias, or belongs to a
    norm or embedding class. A weight that an embedding shares with an output layer counts as an embedding.

    Args:
        module: Any module; parameters that do not require a gradient are left out.

    Returns:
        Parameters with and without decay, by their first names in `module.named_parameters()`.
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


def parameter_groups(
    decayed: Parameters, undecayed: Parameters, weight_decay: float, **options: Any
) -> list[dict[str, Any]]:
    """Build the groups that an optimizer takes, without empty ones."""
    groups = [
        {"params": list(decayed.values()), "weight_decay": weight_decay, **options},
        {"params": list(undecayed.values()), "weight_decay": 0.0, **options},
    ]
    return [group for group in groups if group["params"]]
