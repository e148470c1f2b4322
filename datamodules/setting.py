"""The declaration of one setting of a config section: its default, its help and the values that it takes."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    default_factory: Callable[[], Any] | None = None,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
    is_path: bool = False,
    resume: Literal["same", "free"] = "same",
    evaluation: Literal["same", "test", "free"] = "test",
) -> Any:
    """Declare a field of a schema dataclass.

    Args:
        default: The default value; a list or dict is copied for each instance. Without one the setting is
            required.
        help: One sentence for `--help`, errors and the reference.
        default_factory: Makes the default, for a nested section.
        min: Smallest allowed value; of a list, of each element.
        max: Largest allowed value.
        above: The value must be greater than this.
        below: The value must be less than this.
        choices: The allowed values.
        is_path: The value is the path of a file or folder; a `~` at its start is the home.
        resume: `"free"`: the setting may change when a run is resumed.
        evaluation: For settings of the sections `data` and `trainer`: `"free"` may change in any evaluation,
            `"test"` only in an evaluation of the test split, `"same"` never, because it decides which
            examples are held out.
    """
    limits: dict[str, Any] = {"min": min, "max": max, "above": above, "below": below, "choices": choices}
    metadata: dict[str, Any] = {"help": help, "resume": resume, "evaluation": evaluation, "is_path": is_path}
    metadata |= {key: value for key, value in limits.items() if value is not None}
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
