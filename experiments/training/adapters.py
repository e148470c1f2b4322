"""Train an adapter: low-rank updates beside frozen weights, which are named and not saved again.

The state of an adapted model holds only what is trained, so checkpoints are small. `model.init_from` names
the frozen weights, and `adapter.base_sha256` in the saved config says which bytes they must have.
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
from lit_modules.pretrained.peft_format import huggingface_names, own_names, write_adapter


def with_base(experiment: Config, start: Start) -> tuple[Config, InitialWeights]:
    """Read the frozen weights, and write their architecture and checksum into the config.

    If the run goes on from a checkpoint, the weights must be those of its beginning.

    Raises:
        UserError: The weights are missing, damaged, or other ones.
    """
    assert experiment.adapter is not None
    plain = start.state["config"] if start.checkpoint is not None else experiment.plain
    wanted = plain["adapter"].get("base_sha256")
    config = dataclasses.replace(experiment.adapter.config, base_sha256=wanted)
    experiment = dataclasses.replace(experiment, adapter=Section(experiment.adapter.name, config))
    initial = read_base(experiment, beside=start.checkpoint)
    config = dataclasses.replace(config, base_sha256=checksum(initial.path))
    adapter = Section("lora", config)
    experiment = initial_weights.with_architecture(experiment, initial)
    plain = {**experiment.plain, "adapter": literal(adapter.to_plain())}
    return dataclasses.replace(experiment, adapter=adapter, plain=plain), initial


def read_base(experiment: Config, *, beside: Path | None = None) -> InitialWeights:
    """Read the frozen weights of an adapter.

    Args:
        experiment: The config of the adapter.
        beside: A checkpoint of the adapter. If it was moved together with the run that has the weights, they
            are found there.

    Raises:
        UserError: They are missing or damaged, or have another checksum.
    """
    name = init_from(experiment)
    adapter = experiment.adapter
    assert name is not None
    assert adapter is not None
    moved = [] if beside is None or Path(name).exists() else _moved(Path(name), beside)
    if moved:
        model = dataclasses.replace(experiment.model.config, init_from=str(moved[0]))
        experiment = dataclasses.replace(experiment, model=Section(experiment.model.name, model))
    initial = initial_weights.read(experiment)
    assert initial is not None
    check_base(initial.path, adapter.config.base_sha256)
    return initial


def _moved(path: Path, beside: Path) -> list[Path]:
    """Return where a file may be that was moved with its chain: STAGE/checkpoints/FILE in a parent folder."""
    return [
        place for folder in beside.resolve().parents if (place := folder.joinpath(*path.parts[-3:])).is_file()
    ]


def check_base(path: Path, wanted: str | None) -> None:
    """Check that weights are those that an adapter was trained on.

    Raises:
        UserError: They have another checksum.
    """
    if wanted is not None and (found := checksum(path)) != wanted:
        raise UserError(
            f"{path} isn't the model that the adapter was trained on: its sha256 is {found[:12]}…, expected "
            f"{wanted[:12]}…"
        )


def checksum(path: Path) -> str:
    """Return the sha256 of a file, or of the weights in a folder: of their digests if there are several."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    digests = []
    for file in files:
        with file.open("rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def start_from(module: Any, experiment: Config, initial: InitialWeights | None) -> list[str]:
    """Load the initial weights into a new model and add its adapter, if any; return lines that say so.

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
    """Freeze a model and add a low-rank update to each target; from now on, its state holds only the updates.

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
    """Write the updates in PEFT's format, with the names that the frozen model has there."""
    assert experiment.adapter is not None
    base = init_from(experiment)
    assert base is not None
    model = experiment.model.config
    # A GPT-2 keeps query, key and value in one matrix there; its adapter has our names.
    theirs = is_pretrained(base) and model.norm == "rms_norm"
    names = huggingface_names(model.depth) if theirs else own_names(module.network)
    with writing(folder):
        write_adapter(folder, module.network, experiment.adapter.config, base=base, names=names)
