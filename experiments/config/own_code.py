"""Your own classes: give them short names, and load the files that define them.

A config or a checkpoint can never name a file or a class. A person does: with `--use own.py` on the command
line, or by importing the file in Python.
"""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.config import registry
from experiments.config.messages import nearest, show
from experiments.config.root import Config
from experiments.config.signature import schema_of
from experiments.errors import UserError

KINDS = (
    *("model", "data", "objective", "reward", "optimizer", "schedule"),
    *("baseline", "callback", "logger", "metric"),
)
_used: dict[str, Path] = {}
"""The files that `use` has loaded, by the name of their module."""


def register(
    kind: str, name: str, target: Callable[..., Any], schema: type | None = None, *, help: str = ""
) -> None:
    """Register your own class or function under a short name, so that configs can use it.

    Without a schema, the keywords of its signature are its settings, with their types and defaults. With a
    schema, a model is called with `(config, info, optimizer=…, schedule=…)` and `objective=…` if the schema
    lists `objectives`, data with `(config, seed=…)`, and an objective with `(config, info)`. All other kinds
    are called with their settings as keywords. `docs/how-to/your_own_code.md` says what each kind must
    provide.

    Args:
        kind: One of `KINDS`.
        name: The short name.
        target: The class or function.
        schema: The keyword-only dataclass of its settings.
        help: One line for `--help`.

    Raises:
        UserError: The kind is unknown, the name is taken, or the target is no class and no function, or lacks
            what its kind must provide.
    """
    if kind not in KINDS:
        raise UserError(f"can't register a {kind!r}{nearest(kind, KINDS)}; allowed: {', '.join(KINDS)}")
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UserError(f"can't register the name {name!r}; use letters, digits and _")
    if not callable(target) or not hasattr(target, "__qualname__"):
        raise UserError(f"can't register {show(str(target))} as {name!r}: it is no class and no function")
    names = registry.CATALOG.setdefault(kind, {})
    taken = names.get(name)
    if taken is not None and not ((kind, name) in registry.OWN and registry.is_same(taken.target, target)):
        raise UserError(
            f"the {kind} name {name!r} is taken by {registry.place(taken.target)}; choose another"
        )
    if kind == "model" and schema is None:
        _check_plain(target)
    if kind in ("optimizer", "schedule") and getattr(schema, "__module__", "").startswith("lit_modules."):
        raise UserError(f"can't register {name!r} with the schema of another {kind}; derive your own from it")
    names[name] = registry.Entry(
        target=target,
        schema=schema or schema_of(kind, target),
        help=help or (target.__doc__ or "").split("\n")[0],
        has_schema=schema is not None,
    )
    registry.OWN.add((kind, name))


def _check_plain(target: Any) -> None:
    """Check that a plain LightningModule can be trained, before a run begins."""
    for method in ("training_step", "configure_optimizers"):
        owner = next((c for c in getattr(target, "__mro__", ()) if method in vars(c)), object)
        if owner.__module__.startswith(("lightning.", "builtins")):
            raise UserError(
                f"{target.__name__} has no {method}; a model without a schema is a whole LightningModule"
            )


def use(path: str | Path) -> None:
    """Load a Python file that registers own classes; a second call does nothing.

    Raises:
        UserError: The file is missing, or an error ends it.
    """
    file = Path(path).expanduser().resolve()
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"--use {path}: there is no such Python file")
    if file in _used.values():
        return
    name = f"own_code_{len(_used)}_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module
    _used[name] = file
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # for the files beside it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name], _used[name]
        raise UserError(f"--use {path}: {_in_file(error, file)}") from error


def _in_file(error: Exception | SystemExit, file: Path) -> str:
    """Say in one line what went wrong, and in which line of the file if one is known."""
    if isinstance(error, UserError):
        return str(error)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    text = (str(error).splitlines() or [""])[0]
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: {text}"


def take_option(words: Iterable[str]) -> list[str]:
    """Load the files of each `--use FILE.py` of a command line, and return the other words.

    Raises:
        UserError: `--use` is the last word, or its file cannot be loaded.
    """
    rest: list[str] = []
    left = iter(words)
    for word in left:
        option, equals, file = word.partition("=")
        if option != "--use":
            rest.append(word)
            continue
        if not equals:
            file = next(left, "")
        if not file:
            raise UserError("--use needs a file, as in --use own.py")
        use(file)
    return rest


def options() -> list[str]:
    """Return the words `--use FILE.py` that give another command the files of this process."""
    return [word for file in _used.values() for word in ("--use", str(file))]


def sources(plain: Mapping[str, Any]) -> list[str]:
    """List what another process must load to know the own classes that a plain config names.

    Returns:
        Files that `use` has loaded, and names of modules.

    Raises:
        UserError: A class is defined in a notebook, where no other process finds it.
    """
    found = []
    for kind, name in named(plain):
        if (kind, name) not in registry.OWN:
            continue
        target: Any = registry.entry(kind, name).target
        module = target.__module__
        if module in _used:
            found.append(str(_used[module]))
        elif module not in ("__main__", "__mp_main__"):
            found.append(module)
        elif not hasattr(sys.modules["__main__"], "__file__"):
            raise UserError(
                f"{target.__name__} is defined in this session, and a study trains in other processes: "
                "put it in a file, with its register(…), and import that file"
            )  # a script is imported by the processes that it starts
    return list(dict.fromkeys(found))


def sources_of(experiment: Config) -> list[str]:
    """List `sources` for all fits and baselines of a study."""
    baselines = {name: section.to_plain() for name, section in experiment.baselines.items()}
    plains = [{"baselines": baselines}, *(child.config.plain for child in experiment.children)]
    return list(dict.fromkeys(source for plain in plains for source in sources(plain)))


def named(plain: Any) -> list[tuple[str, str]]:
    """List the kind and the name of each component that a plain config names."""
    if not isinstance(plain, Mapping):
        return []
    found = []
    for kind in KINDS:
        if isinstance(section := plain.get(kind), Mapping):
            found.append((kind, str(section.get("name"))))
        if isinstance(sections := plain.get(f"{kind}s"), Mapping):
            found += [(kind, str((section or {}).get("name", key))) for key, section in sections.items()]
    return found


def load(found: Iterable[str]) -> None:
    """Load what `sources` listed in another process."""
    for source in found:
        if source.endswith(".py"):
            use(source)
        else:
            importlib.import_module(source)
