"""The stage that reads a prompt set with a frozen model, for all later stages."""

from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.config.root import Config
from experiments.config.steering_tasks import ExtractTaskConfig
from experiments.language_models.opening import open_language_model
from experiments.steering.chain import precision_of
from experiments.steering.extraction import extract, open_prompt_set
from experiments.steering.states_manifest import STATES
from experiments.studies.tasks import Stage, Task


class ExtractTask(Task):
    """Write the file of hidden states that later stages train on and are evaluated with."""

    output = STATES
    settings: ExtractTaskConfig

    def check(self, earlier: Mapping[str, Config]) -> None:
        """Read the prompts, to find a wrong line before anything runs."""
        open_prompt_set(self.settings.prompts)

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Extract the hidden states, or verify the file of an interrupted chain."""
        settings = self.settings
        model = open_language_model(settings.language_model, precision_of(settings), laid_out=False)
        prompts = open_prompt_set(settings.prompts)

        def show(done: int, count: int) -> None:
            if done == count or done // settings.batch_size % 20 == 0:
                say(f"{done} of {count} prompts")

        extract(
            model,
            prompts,
            run_dir / STATES,
            layers=settings.layers,
            template=settings.template,
            position=settings.position,
            answers=settings.answers,
            batch_size=settings.batch_size,
            show=show,
        )
        return {"prompts": float(len(prompts.prompts)), "layers": float(len(settings.layers))}
