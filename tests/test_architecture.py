"""The arrows between the packages, and what no file may do, read off the source itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("experiments", "lit_modules", "datamodules")
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
SCRIPTS = sorted((REPOSITORY / "tests").rglob("*.py"))


def name(path: Path) -> str:
    """The dotted name of a file's module."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[str]:
    """Full dotted names of everything a file imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Dotted names of the functions that a file calls."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            parts, function = [], node.func
            while isinstance(function, ast.Attribute):
                parts.append(function.attr)
                function = function.value
            parts.append(function.id if isinstance(function, ast.Name) else "?")
            yield ".".join(reversed(parts)), node


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def forbidden(path: Path) -> tuple[str, ...]:
    """What a file may not import, by where it lies."""
    here = name(path)
    if within(here, "lit_modules.functional"):
        return ("experiments", "datamodules", "lightning", "pytorch_lightning", "torchmetrics", "lit_modules")
    if within(here, "lit_modules.layers"):
        return ("experiments", "datamodules", "lightning", "pytorch_lightning", "torchmetrics", "lit_modules")
    if within(here, "lit_modules"):
        return ("experiments", "datamodules")
    if within(here, "datamodules"):
        return ("experiments", "lit_modules")
    return ()


def allowed(path: Path) -> tuple[str, ...]:
    """The exceptions to that: a package's own files, and what lies below it."""
    here = name(path)
    if within(here, "lit_modules.functional"):
        return ("lit_modules.functional",)
    if within(here, "lit_modules.layers"):
        return ("lit_modules.layers", "lit_modules.functional")
    return ()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_arrows_point_one_way(path: Path) -> None:
    wrong = [m for m in imports(path) if within(m, *forbidden(path)) and not within(m, *allowed(path))]
    assert not wrong


@pytest.mark.parametrize("path", [p for p in FILES if p.stem.endswith("_config")], ids=name)
def test_schemas_import_the_standard_library_and_each_other(path: Path) -> None:
    for module in imports(path):
        top = module.partition(".")[0]
        is_schema = top in PACKAGES and any(part.endswith("_config") for part in module.split("."))
        assert top in sys.stdlib_module_names or is_schema, module


def test_packages_import_nothing_heavy_by_themselves() -> None:
    program = (
        f"import sys, {', '.join(PACKAGES)}\n"
        "assert not {'torch', 'lightning', 'torchvision', 'numpy', 'sklearn'} & sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_from_a_file_is_run(path: Path) -> None:
    for function, call in calls(path):
        assert function not in ("eval", "exec", "compile", "__import__"), f"line {call.lineno}: {function}"
        assert function not in (
            "pickle.load",
            "pickle.loads",
            "yaml.load",
            "yaml.unsafe_load",
            "yaml.full_load",
        )
        assert function not in ("joblib.load", "dill.load", "os.system", "marshal.loads", "shelve.open")
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if function in ("torch.load", "np.load", "numpy.load"):
            flag, wanted = ("weights_only", True) if function == "torch.load" else ("allow_pickle", False)
            value = keywords.get(flag)
            assert isinstance(value, ast.Constant), f"line {call.lineno}: {function} without {flag}"
            assert value.value is wanted, f"line {call.lineno}: {function}"
        if function.endswith(("load_from_checkpoint",)):
            raise AssertionError(f"line {call.lineno}: {function} builds what the file says")
        if function.startswith("subprocess."):
            shell = keywords.get("shell")
            assert shell is None or (isinstance(shell, ast.Constant) and shell.value is False)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_tests_load_weights_alone_too(path: Path) -> None:
    for function, call in calls(path):
        if function == "torch.load":
            assert any(keyword.arg == "weights_only" for keyword in call.keywords), f"line {call.lineno}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_user_can_be_told_what_an_assert_would_crash_on(path: Path) -> None:
    """No handler swallows everything, and none catches what stops a process without passing it on."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"


def test_the_checks_see_what_they_look_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lit_modules" / "layers"
    folder.mkdir(parents=True)
    bad = folder / "bad.py"
    bad.write_text(
        "def f():\n    import lightning as L\n    from lit_modules.optim import x\n"
        "    from lit_modules.functional.softmax import y\n    return torch.load('a')\n"
    )
    assert list(imports(bad)) == ["lightning", "lit_modules.optim.x", "lit_modules.functional.softmax.y"]
    assert [function for function, _ in calls(bad)] == ["torch.load"]
    monkeypatch.setitem(globals(), "REPOSITORY", tmp_path)
    wrong = [m for m in imports(bad) if within(m, *forbidden(bad)) and not within(m, *allowed(bad))]
    assert wrong == ["lightning", "lit_modules.optim.x"]
