"""What `pyproject.toml` declares: every library that the suite imports, in versions without known faults."""

import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.test_architecture import FILES, PACKAGES, REPOSITORY, imports

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
REQUIRED = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"])}
COMES_WITH = {"triton": "torch", "lightning_utilities": "lightning"}
"""Libraries that a declared one brings, and that the suite uses only together with it."""


@pytest.mark.parametrize(
    ("library", "bound"),
    [
        ("pillow", "12.3"),  # 12.1.1 writes out of bounds for a PSD file (CVE-2026-25990)
        ("requests", "2.33"),  # 2.32 extracts to a predictable path (CVE-2026-25645)
        ("filelock", "3.20.3"),  # 3.20.2 follows a symbolic link (CVE-2025-68146, CVE-2026-22701)
        ("pyyaml", "5.4"),  # 5.3 runs code from a file (CVE-2020-14343)
    ],
)
def test_no_allowed_version_has_a_known_vulnerability(library: str, bound: str) -> None:
    lowest = [Version(s.version) for s in REQUIRED[library].specifier if s.operator in (">=", "==", "~=")]
    assert max(lowest) >= Version(bound)


def test_every_imported_library_is_declared() -> None:
    declared = {*REQUIRED, *(canonicalize_name(Requirement(line).name) for line in OPTIONAL)}
    distributions = packages_distributions()
    modules = {module.partition(".")[0] for path in FILES for module in imports(path)}
    for module in sorted(modules - sys.stdlib_module_names - set(PACKAGES)):
        library = COMES_WITH.get(module, module)
        names = {canonicalize_name(name) for name in distributions.get(library, [library])}
        assert names & declared, f"{module} is imported and not declared"
