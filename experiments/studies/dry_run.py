"""Try an experiment (`--dry-run`): build what it needs and run single batches, without writing anything."""

import dataclasses
from collections.abc import Sequence

import lightning as L

from experiments.callbacks.checkpoints import check_monitor
from experiments.config.root import Config
from experiments.console import quiet_lightning, say
from experiments.studies.stages import check_order
from experiments.studies.tasks import by_seed, check_tasks
from experiments.training import adapters, initial_weights
from experiments.training import trainer as trainers
from experiments.training.build import build_data, build_model
from experiments.training.fit_checks import check_batches, check_memory
from experiments.training.teacher import give_teacher


def dry_run(experiment: Config, stages: Sequence[str] = ()) -> None:
    """Build everything and run one batch of each stage, writing nothing.

    The files of the chain's other `stages` do not exist yet.

    Raises:
        UserError: Something in the config is not available, or the monitored metric is not logged.
    """
    if experiment.form == "stages":
        check_order(experiment)
        check_tasks(experiment)
        first = by_seed(experiment)[0]  # other seeds have the same stages
        for stage_name, child in first.items():
            say(f"dry run of {stage_name}")
            dry_run(child.config, stages=list(first))
        return
    for child in experiment.children:
        say(f"dry run of {child.path}")
        dry_run(child.config)
    if experiment.children:
        return
    if experiment.task is not None:
        say(f"dry run of {experiment.name}: the prerequisites of {experiment.task.name} exist")
        return
    trainers.check_hardware(experiment.trainer, experiment.model.config)
    if (stage := getattr(experiment.data.config, "from_stage", None)) in stages:
        say(f"dry run of {experiment.name}: its data exists only after the stage {stage}")
        return
    if (teacher := initial_weights.named_files(experiment).get("objective.teacher")) in stages:
        say(f"dry run of {experiment.name}: its teacher exists only after the stage {teacher}")
        return
    initial = None
    name = initial_weights.init_from(experiment)
    if name is not None and name not in stages:
        initial = initial_weights.read(name, experiment)
        experiment = initial_weights.completed(experiment, initial)
    with trainers.global_state_kept(), quiet_lightning():
        L.seed_everything(experiment.seed, workers=True, verbose=False)
        datamodule = build_data(experiment, initial.tokenizer if initial else None)
        check_memory(experiment, datamodule)
        module = build_model(experiment, datamodule.info)
        for line in adapters.start_from(module, experiment, initial):
            say(line)
        give_teacher(module)
        settings = dataclasses.replace(experiment.trainer, progress_bar=False, profiler=None)
        trainer = trainers.build_trainer(
            settings, run_dir=None, dashboard=None, resume=None, fast_dev_run=True
        )
        check_batches(datamodule, module, trainer, settings.limit_train_batches)
        if isinstance(settings.compile, str):
            from experiments.training.step_graph import replay_steps

            replay_steps(module, datamodule, trainer)
        trainer.fit(module, datamodule=datamodule)
        check_monitor(experiment.trainer.monitor, trainer)
        trainer.test(module, datamodule=datamodule, verbose=False)
    say(f"dry run of {experiment.name}: model, data and a batch of each stage work; nothing was written")
