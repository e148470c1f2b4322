"""Results of the earlier stages that a task uses: the model, the networks, the choice, and their files."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from experiments.config.root import Config
from experiments.config.steering_tasks import ChooseTaskConfig, CompareTaskConfig, ExtractTaskConfig
from experiments.errors import UserError
from experiments.language_models.opening import open_language_model
from experiments.steering.evaluator import Evaluator, Plan
from experiments.steering.extraction import open_prompt_set
from experiments.steering.methods import METHODS, WITHOUT_FACTOR, Learned
from experiments.steering.states_manifest import STATES
from experiments.studies.tasks import Stage
from experiments.training import checkpoint, run_directory
from experiments.training.build import restore
from experiments.training.initial_weights import init_from
from experiments.training.machine import default_device
from lit_modules.functional.precision import multiplies_bf16

CHOICE = "choice.json"
"""Name of the file that a `steering_choose` task writes."""
NOTHING_EXTRACTED = "no earlier stage extracts hidden states; put a task steering_extract first"
NOTHING_TRAINED = "no earlier stage trains on extracted layers (data.input_layer is null)"
NOTHING_CHOSEN = "no earlier stage chooses layers and factors; put a task steering_choose first"
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Choice:
    """The result of validation."""

    stage: str  # name of the stage that trained the chosen network
    input_layer: int  # layer that the network reads
    target_layer: int  # layer that is steered
    alphas: Mapping[str, float]  # factor of each method
    instruction: str  # instruction of the method `prompting`
    adapter: str | None = None  # name of the stage that trained the chosen low-rank updates, if there is one

    @property
    def methods(self) -> list[str]:
        """The methods that the chain compares: all, but `lora` only if a stage trained low-rank updates."""
        return [method for method in METHODS if method != "lora" or self.adapter is not None]

    def plan(self, method: str, vectors: Tensor, adapter: Path | None) -> Plan:
        """Build the plan of a method with the vectors (M, W); `adapter` is the run directory for `lora`."""
        return Plan(
            layer=self.target_layer,
            vectors=vectors,
            factor=self.factor(method),
            instruction=self.instruction if method == "prompting" else "",
            adapter=adapter if method == "lora" else None,
        )

    def factor(self, method: str) -> float:
        """Return the factor of a method.

        Raises:
            UserError: The choice was made before the method existed.
        """
        if method in WITHOUT_FACTOR:
            return 0.0
        if method not in self.alphas:
            raise UserError(f"no factor was chosen for {method}; run the choosing stage again")
        return self.alphas[method]

    def with_alpha(self, alpha: float) -> "Choice":
        """Return the same choice with one factor for all methods."""
        return dataclasses.replace(self, alphas=dict.fromkeys(METHODS, alpha))

    def write(self, run_dir: Path, **more: Any) -> None:
        """Write the choice and further values to the JSON file of a run directory."""
        content = {**self.__dict__, "alphas": dict(self.alphas), **more}
        run_directory.write_text(run_dir / CHOICE, json.dumps(content, indent=2) + "\n")


def find_task(configs: Mapping[str, Config], schema: type[Settings]) -> tuple[str, Settings] | None:
    """Find the first stage with a task of this kind; return its name and the settings of the task."""
    for name, config in configs.items():
        if config.task is not None and isinstance(config.task.config, schema):
            return name, config.task.config
    return None


def check_chain(earlier: Mapping[str, Config], *, chosen: bool) -> None:
    """Check the stages before a steering task, before anything runs.

    With `chosen`, a stage must have chosen layers and factors.

    Raises:
        UserError: No stage extracts, trains or chooses, a stage trains on a layer that is not extracted, or
            low-rank updates change another model.
    """
    extracting = find_task(earlier, ExtractTaskConfig)
    if extracting is None:
        raise UserError(NOTHING_EXTRACTED)
    fits = {name: config.data.config for name, config in earlier.items() if config.task is None}
    if all(getattr(data, "input_layer", None) is None for data in fits.values()):
        raise UserError(NOTHING_TRAINED)
    if chosen and find_task(earlier, ChooseTaskConfig) is None:
        raise UserError(NOTHING_CHOSEN)
    layers, model = extracting[1].layers, extracting[1].language_model
    for name, config in earlier.items():
        if config.adapter is not None and (base := init_from(config)) != model:
            raise UserError(
                f"stage {name}: model.init_from is {base}, but the hidden states are those of {model}; set "
                f"model.init_from={model}"
            )
    for name, data in fits.items():
        for key in ("input_layer", "target_layer"):
            if (layer := getattr(data, key, None)) is not None and layer not in layers:
                raise UserError(
                    f"stage {name}: data.{key} is {layer}, but task.layers has only "
                    f"{', '.join(map(str, layers))}; choose one of them, or add {layer} to task.layers"
                )


def configs_of(stages: Mapping[str, Stage]) -> dict[str, Config]:
    """Return the config of each stage."""
    return {name: stage.config for name, stage in stages.items()}


def read_choice(stages: Mapping[str, Stage]) -> Choice:
    """Read the result of the choosing stage.

    Raises:
        UserError: There is no such stage, or its file is damaged.
    """
    choosing = find_task(configs_of(stages), ChooseTaskConfig)
    if choosing is None:
        raise UserError(NOTHING_CHOSEN)
    run_dir = stages[choosing[0]].run_dir
    try:
        content = json.loads((run_dir / CHOICE).read_text(encoding="utf-8"))
        names = [field.name for field in dataclasses.fields(Choice) if field.name != "adapter"]
        # The choice of an earlier version has no adapter.
        return Choice(**{name: content[name] for name in names}, adapter=content.get("adapter"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{run_dir / CHOICE} is missing or damaged: {error}; remove {run_dir / 'metrics.json'}, and "
            "resume the chain to choose again"
        ) from error


def trained(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Select the stages that trained a steering network on extracted layers.

    Raises:
        UserError: There is none.
    """
    found = {
        name: stage
        for name, stage in stages.items()
        if stage.config.task is None and getattr(stage.config.data.config, "input_layer", None) is not None
    }
    if not found:
        raise UserError(NOTHING_TRAINED)
    return found


def adapted(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Select the stages that trained low-rank updates of the model; there may be none."""
    return {name: stage for name, stage in stages.items() if stage.config.adapter is not None}


def adapter_dir(choice: Choice, stages: Mapping[str, Stage]) -> Path | None:
    """Return the run directory of the chosen low-rank updates, if there are any."""
    return None if choice.adapter is None else adapted(stages)[choice.adapter].run_dir


def open_evaluator(stages: Mapping[str, Stage], *, batch_size: int = 32) -> Evaluator:
    """Open the frozen model, the prompts and the hidden states of the extracting stage.

    Raises:
        UserError: There is no such stage.
    """
    extracting = find_task(configs_of(stages), ExtractTaskConfig)
    if extracting is None:
        raise UserError(NOTHING_EXTRACTED)
    name, settings = extracting
    return Evaluator(
        open_language_model(settings.language_model, precision_of(settings), laid_out=False),
        open_prompt_set(settings.prompts),
        stages[name].run_dir / STATES,
        answers=settings.answers,
        batch_size=batch_size,
    )


def precision_of(settings: ExtractTaskConfig) -> str:
    """Resolve the precision `auto` on this machine."""
    if settings.precision != "auto":
        return settings.precision
    device = default_device()
    return "bf16" if multiplies_bf16(device) else "fp32"


def input_layer(stage: Stage) -> int:
    """Return the layer that the network of a stage reads."""
    return int(stage.config.data.config.input_layer)


def target_layer(stage: Stage) -> int:
    """Return the layer that the network of a stage steers."""
    return int(stage.config.data.config.target_layer)


def load_network(run_dir: Path) -> Learned:
    """Load the best network of a run."""
    path = run_dir / "checkpoints" / "best.ckpt"
    module = restore(checkpoint.load(path), path).module

    @torch.inference_mode()
    def learned(states: Tensor) -> Tensor:
        return module(states)

    return learned


def network_dir(stage: Stage, compared: Path, seed: int) -> Path:
    """Return the run directory of a stage's network with a seed.

    The comparing stage trains the networks with other seeds in its own directory `compared`.
    """
    return stage.run_dir if seed == stage.config.seed else compared / f"{stage.run_dir.name}_seed_{seed}"


def compared_networks(stage: Stage, stages: Mapping[str, Stage]) -> dict[int, Learned]:
    """Load the networks of the comparing stage by seed; without that stage, the network of `stage`."""
    comparing = find_task(configs_of(stages), CompareTaskConfig)
    if comparing is None:
        return {stage.config.seed: load_network(stage.run_dir)}
    name, settings = comparing
    return {seed: load_network(network_dir(stage, stages[name].run_dir, seed)) for seed in settings.seeds}
