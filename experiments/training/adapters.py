"""Train an adapter: low-rank updates of frozen weights.

Checkpoints hold only the updates, so they are small. `model.init_from` names the file of the frozen weights,
and `adapter.base_sha256` in the saved config is its checksum.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from experiments.config.interpolation import literal
from experiments.config.root import Config, Section
from experiments.errors import UserError, writing
from experiments.language_models.pretrained_models import is_pretrained
from experiments.training import initial_weights
from experiments.training.initial_weights import InitialWeights, init_from
from experiments.training.resume import Start
from lit_modules.configs.adapter import LoRAConfig
from lit_modules.layers.lora import apply_lora
from lit_modules.pretrained.peft_format import write_adapter


def with_base(experiment: Config, start: Start) -> tuple[Config, InitialWeights]:
    """Read the frozen weights, and write their architecture and checksum into the config.

    A resumed run must have the same weights as at its start.

    Raises:
        UserError: The weights are missing or damaged, or have another checksum.
    """
    assert experiment.adapter is not None
    name, config = experiment.adapter.name, experiment.adapter.config
    wanted = (
        config.base_sha256 if start.checkpoint is None else start.state["config"]["adapter"]["base_sha256"]
    )
    initial = read_base(experiment, wanted, beside=start.checkpoint)
    adapter = Section(name, dataclasses.replace(config, base_sha256=wanted or checksum(initial.path)))
    experiment = initial_weights.completed(experiment, initial)
    plain = {**experiment.plain, "adapter": literal(adapter.to_plain())}
    return dataclasses.replace(experiment, adapter=adapter, plain=plain), initial


def read_base(experiment: Config, sha256: str | None, *, beside: Path | None) -> InitialWeights:
    """Read the frozen weights of an adapter.

    Args:
        experiment: The config of the adapter.
        sha256: The checksum of the weights; None for any weights.
        beside: A checkpoint of the adapter, or None. If a whole chain was moved, the weights are searched for
            in the parent folders of this checkpoint.

    Raises:
        UserError: The weights are missing or damaged, or have another checksum.
    """
    name = init_from(experiment)
    assert name is not None
    if beside is not None and not Path(name).exists():
        stage_file = Path(*Path(name).parts[-3:])  # STAGE/checkpoints/FILE
        places = (folder / stage_file for folder in beside.resolve().parents)
        name = next((str(place) for place in places if place.is_file()), name)
    initial = initial_weights.read(name, experiment)
    check_base(initial.path, sha256)
    return initial


def check_base(path: Path, wanted: str | None) -> None:
    """Check that an adapter was trained on these weights.

    Raises:
        UserError: The weights have another checksum.
    """
    if wanted is not None and (found := checksum(path)) != wanted:
        raise UserError(
            f"{path} isn't the model that the adapter was trained on: its sha256 is {found[:12]}…, expected "
            f"{wanted[:12]}…"
        )


def checksum(path: Path) -> str:
    """Return the sha256 of a file, or of the weights in a folder; of several files, that of their digests."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    digests = []
    for file in files:
        with file.open("rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def start_from(module: Any, experiment: Config, initial: InitialWeights | None) -> list[str]:
    """Load the initial weights into a new model, and add its adapter; both are optional.

    Returns:
        Lines for the user about what was done.

    Raises:
        UserError: The weights don't fit, or a target matches no layer.
    """
    adapter, lines = experiment.adapter, []
    if initial is not None:
        lines.append(initial_weights.initialise(module, initial, whole=adapter is not None))
    if adapter is not None:
        count, rank = len(add_updates(module, adapter.config)), adapter.config.rank
        lines.append(f"all weights are frozen; {count} layers have updates of rank {rank}")
    return lines


def add_updates(module: nn.Module, config: LoRAConfig) -> list[str]:
    """Freeze a model and add a low-rank update to each target; its state dict then holds only the updates.

    Returns:
        The names of the adapted layers.

    Raises:
        UserError: A target matches no linear layer, or the rank is larger than a layer.
    """
    try:
        names = apply_lora(
            module,
            [f"*.{target}" for target in config.targets],
            rank=config.rank,
            alpha=config.alpha,
            dropout=config.dropout,
            rank_stabilized=config.rank_stabilized,
        )
    except ValueError as error:
        raise UserError(f"adapter: {error}") from None
    module.register_state_dict_post_hook(_drop_frozen)
    module.register_load_state_dict_pre_hook(_keep_frozen)
    return names


def _frozen(module: nn.Module) -> dict[str, Tensor]:
    parameters = module.named_parameters(remove_duplicate=False)
    return {name: parameter.detach() for name, parameter in parameters if not parameter.requires_grad}


def _drop_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in _frozen(module):
        state.pop(prefix + name, None)


def _keep_frozen(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, tensor in _frozen(module).items():
        state.setdefault(prefix + name, tensor)


def save(folder: Path, module: Any, experiment: Config) -> None:
    """Write the updates in PEFT's format, with the layer names that the frozen model has in PEFT."""
    assert experiment.adapter is not None
    base = init_from(experiment)
    assert base is not None
    config, network = experiment.adapter.config, module.network
    with writing(folder):
        write_adapter(folder, network, config, base=base, huggingface=is_pretrained(base))
