"""Give a distillation its teacher: the classifier of the checkpoint that `objective.teacher` names."""

from typing import Any

import torch

from experiments.errors import UserError
from experiments.training.build import restore
from experiments.training.checkpoint_path import open_checkpoint
from lit_modules.classifier import Classifier
from lit_modules.objective import Distillation

_SAME = ("kind", "class_names", "input_shape", "mean", "std", "tokenizer")
"""What the data of teacher and student must share: their classes, and what an input means."""


def give_teacher(module: Any) -> None:
    """Give the objective of a student its teacher; another model stays as it is.

    Raises:
        UserError: The checkpoint can't be loaded, or it is no classifier of the student's data.
    """
    if not isinstance(getattr(module, "objective", None), Distillation):
        return
    name = module.objective.config.teacher
    path, saved = open_checkpoint(name)
    with torch.random.fork_rng(devices=[]):
        restored = restore(saved, path)
    old, new = restored.info.to_dict(), module.info.to_dict()
    different = next((key for key in _SAME if old.get(key) != new.get(key)), None)
    if different or not isinstance(restored.module, Classifier):
        why = f"its {different} differs" if different else "it is no classifier"
        raise UserError(f"objective.teacher={name} can't teach on this data: {why}")
    module.objective.teacher = restored.module.requires_grad_(False)
