"""What a stage that trains nothing knows of the stages before it, and the file that each of them leaves."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.config.root import Config
from experiments.config.steering_tasks import ChooseTaskConfig, ExtractTaskConfig
from experiments.errors import UserError
from experiments.extract import open_prompt_set
from experiments.language_models.opening import open_language_model
from experiments.steering.bench import Bench, Plan
from experiments.steering.methods import METHODS, WITHOUT_FACTOR
from experiments.studies.tasks import STATES, Stage
from experiments.training import run_directory
from lit_modules.functional.precision import multiplies_bf16

CHOICE = "choice.json"
NOTHING_EXTRACTED = "no stage before this one extracts hidden states; put a task steering_extract first"
NOTHING_TRAINED = "no stage before this one trains on extracted layers (data.input_layer is null)"
NOTHING_CHOSEN = "no stage before this one has chosen layers and factors; put a task steering_choose first"
Learned = Callable[[Tensor], Tensor]
"""A trained network, from hidden states (M, W) to vectors (M, W)."""


@dataclass(frozen=True)
class Choice:
    """What validation decided.

    Attributes:
        stage: Name of the stage whose network is used.
        input_layer: That it learned from.
        target_layer: That it steers.
        alphas: Factor of each method.
        instruction: What prompting puts before each prompt.
    """

    stage: str
    input_layer: int
    target_layer: int
    alphas: Mapping[str, float]
    instruction: str

    def plan(self, method: str, vectors: Tensor) -> Plan:
        """How a method answers with these vectors (M, W)."""
        return Plan(
            layer=self.target_layer,
            vectors=vectors,
            alpha=self.factor(method),
            instruction=self.instruction if method == "prompting" else "",
        )

    def factor(self, method: str) -> float:
        """What a method's vectors are multiplied by.

        Raises:
            UserError: The choice was made when the method wasn't there.
        """
        if method in WITHOUT_FACTOR:
            return 0.0
        if method not in self.alphas:
            raise UserError(f"no factor was chosen for {method}; let the choosing stage run again")
        return self.alphas[method]

    def with_alpha(self, alpha: float) -> "Choice":
        """The same layers with one factor for all methods."""
        return dataclasses.replace(self, alphas=dict.fromkeys(METHODS, alpha))

    def write(self, path: Path, **more: Any) -> None:
        """To a JSON file, with what else a reader may want."""
        content = {**self.__dict__, "alphas": dict(self.alphas), **more}
        run_directory.write_text(path, json.dumps(content, indent=2) + "\n")


def check_chain(earlier: Mapping[str, Config], *, chosen: bool) -> None:
    """What can be known before anything is run of the stages before one that steers.

    Args:
        earlier: Their configs.
        chosen: Whether one of them must choose.

    Raises:
        UserError: None of them extracts, trains or chooses, or one trains on a layer that isn't extracted.
    """
    tasks = [config.task.config for config in earlier.values() if config.task is not None]
    extracting = [settings for settings in tasks if isinstance(settings, ExtractTaskConfig)]
    if not extracting:
        raise UserError(NOTHING_EXTRACTED)
    fits = {name: config.data.config for name, config in earlier.items() if config.task is None}
    if all(getattr(data, "input_layer", None) is None for data in fits.values()):
        raise UserError(NOTHING_TRAINED)
    if chosen and not any(isinstance(settings, ChooseTaskConfig) for settings in tasks):
        raise UserError(NOTHING_CHOSEN)
    layers = extracting[0].layers
    for name, data in fits.items():
        for key in ("input_layer", "target_layer"):
            if (layer := getattr(data, key, None)) is not None and layer not in layers:
                raise UserError(
                    f"the stage {name} has data.{key} = {layer}, and extracted are layers "
                    f"{', '.join(map(str, layers))}; take one of them, or add it to task.layers"
                )


def read_choice(stages: Mapping[str, Stage]) -> Choice:
    """What the choosing stage wrote.

    Raises:
        UserError: There was none before.
    """
    for stage in stages.values():
        if (stage.run_dir / CHOICE).is_file():
            content = json.loads((stage.run_dir / CHOICE).read_text(encoding="utf-8"))
            return Choice(**{key: content[key] for key in Choice.__dataclass_fields__})
    raise UserError(NOTHING_CHOSEN)


def trained(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The stages before that trained a steering network on extracted layers.

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


def open_bench(stages: Mapping[str, Stage], *, batch_size: int = 32) -> Bench:
    """The frozen model, the prompts and the hidden states of the extracting stage.

    Raises:
        UserError: No stage before has extracted any.
    """
    for stage in stages.values():
        settings = None if stage.config.task is None else stage.config.task.config
        if isinstance(settings, ExtractTaskConfig):
            return Bench(
                open_language_model(settings.language_model, precision_of(settings), laid_out=False),
                open_prompt_set(settings.prompts),
                stage.run_dir / STATES,
                answers=settings.answers,
                batch_size=batch_size,
            )
    raise UserError(NOTHING_EXTRACTED)


def load_network(run_dir: Path) -> Learned:
    """A run's best network."""
    from experiments.training import checkpoint
    from experiments.training.build import restore

    path = run_dir / "checkpoints" / "best.ckpt"
    module = restore(checkpoint.load(path), path).module

    @torch.inference_mode()
    def learned(states: Tensor) -> Tensor:
        return module(states)

    return learned


def input_layer(stage: Stage) -> int:
    """Whose hidden states a stage's network learned from."""
    return int(stage.config.data.config.input_layer)


def target_layer(stage: Stage) -> int:
    """Which layer a stage's network steers."""
    return int(stage.config.data.config.target_layer)


def precision_of(settings: ExtractTaskConfig) -> str:
    """What `auto` stands for on this machine."""
    if settings.precision != "auto":
        return settings.precision
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return "bf16" if multiplies_bf16(device) else "fp32"
