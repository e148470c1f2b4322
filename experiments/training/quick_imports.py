"""Import Lightning without packages that most commands do not need.

torchmetrics imports each optional package that is installed: torchvision, scipy, transformers and matplotlib.
Lightning imports PyTorch's compiler, Dynamo (and with it sympy), and Triton, only to ask for the type of an
object. Together they took more than half of the time of `experiments.predict`.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from unittest.mock import patch

NOT_NEEDED = ("matplotlib", "scipy", "torchvision", "transformers")
DYNAMO, TRITON = "torch._dynamo", "triton.runtime.jit"


def import_lightning() -> None:
    """Import torchmetrics and Lightning, but not the optional packages that they seldom use.

    The packages can still be imported later. Only the metrics of torchmetrics that need the packages in
    `NOT_NEEDED` stay unavailable in this process. A program with its own LightningModule has imported all of
    this before; then this function does nothing.
    """
    with _without_optional_packages():
        import torchmetrics  # noqa: F401
    compiled, kernel = _lazy_class(DYNAMO, "OptimizedModule"), _lazy_class(TRITON, "JITFunction")
    # If another version of Lightning needs more of these packages, the import fails here. The next import of
    # Lightning then loads the real packages.
    with (
        contextlib.suppress(ImportError),
        _stand_in(DYNAMO, OptimizedModule=compiled, disable=_disable),
        _stand_in("triton"),
        _stand_in("triton.runtime"),
        _stand_in(TRITON, JITFunction=kernel),
    ):
        import lightning  # noqa: F401


@contextlib.contextmanager
def _without_optional_packages() -> Iterator[None]:
    """Hide the packages in `NOT_NEEDED` from the checks of lightning_utilities."""
    from lightning_utilities.core import imports

    if "torchmetrics" in sys.modules or not {"_version", "package_available"} <= vars(imports).keys():
        yield  # Imported before, or another version: the imports are slow, but complete.
        return
    version, package_available = imports._version, imports.package_available

    def version_if_needed(name: str) -> str:
        if name in NOT_NEEDED:
            raise PackageNotFoundError(name)
        return version(name)

    def available_if_needed(name: str) -> bool:
        return name not in NOT_NEEDED and package_available(name)

    with (
        patch.object(imports, "_version", version_if_needed),
        patch.object(imports, "package_available", available_if_needed),
    ):
        yield


class _StandIn(ModuleType):
    """Takes the place of a package that is not imported yet; imports it for an attribute that it lacks."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
            del sys.modules[name]  # all of them: the package may import the others
        return getattr(importlib.import_module(self.__name__), attribute)


@contextlib.contextmanager
def _stand_in(name: str, **attributes: Any) -> Iterator[None]:
    """Put a module with a few attributes in the place of an installed package that is not imported yet."""
    root = name.partition(".")[0]
    if name in sys.modules or (root not in sys.modules and find_spec(root) is None):
        yield
        return
    module = _StandIn(name)
    vars(module).update(attributes, __path__=[], __spec__=ModuleSpec(name, None))
    sys.modules[name] = module
    try:
        yield
    finally:
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _lazy_class(module: str, name: str) -> type:
    """Make a class for `isinstance`: it acts as the named class once the module of that is imported."""

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            real = getattr(sys.modules.get(module), name, cls)
            return real is not cls and isinstance(instance, real)

    return Meta(name, (), {})


def _disable(function: Callable[..., Any], *options: Any, **named: Any) -> Callable[..., Any]:
    """Stand for `torch._dynamo.disable`: the function is never compiled, even if Dynamo is imported later."""
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if DYNAMO not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(sys.modules[DYNAMO].disable(function, *options, **named))
        return disabled[0](*args, **kwargs)

    return call
