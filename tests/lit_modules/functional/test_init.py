"""Every exported name is documented and used by a test."""

import inspect
import re
from pathlib import Path

import pytest

from lit_modules import functional
from lit_modules.functional import backward, blocks, normalization, precision, reduction
from lit_modules.functional import value_checks as checks

MODULES = (backward, blocks, checks, normalization, precision, reduction)
PUBLIC = [(functional, name) for name in functional.__all__] + [
    (module, name)
    for module in MODULES
    for name, member in inspect.getmembers(module)
    if not name.startswith("_") and inspect.getmodule(member) is module
]


@pytest.fixture(scope="module")
def test_sources() -> str:
    own = Path(__file__)
    return "\n".join(path.read_text("utf-8") for path in own.parent.glob("test_*.py") if path != own)


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_every_public_name_is_documented_and_used_by_a_test(
    module: object, name: str, test_sources: str
) -> None:
    member = getattr(module, name)
    assert not inspect.ismodule(member)  # a function must not be hidden by the file it is in
    assert inspect.getdoc(member)
    assert re.search(rf"\b{name}\b", test_sources)
