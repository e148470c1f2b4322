"""The arrows between the packages, and what no file may do, read off the source itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("experiments", "lit_modules", "datamodules")
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
SCRIPTS = sorted((REPOSITORY / "tests").rglob("*.py"))


def name(path: Path) -> str:
    """The dotted name of a file's module."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


@cache
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


ROOMS = {
    "experiments": "config training studies language_models steering callbacks benchmark "
    "compare evaluate predict sample extract demo",
    "lit_modules": "configs networks optim metrics generation pretrained layers functional",
    "datamodules": "configs assets loading images text tables tokenizers prompts",
}
"""The folders of each package; a new one is a decision, so it is made here."""

REACH: dict[str, tuple[str, ...]] = {
    "lit_modules.functional": ("lit_modules.functional",),
    "lit_modules.layers": ("lit_modules.layers", "lit_modules.functional", "lit_modules.configs"),
    "lit_modules.configs": ("lit_modules.configs", "datamodules.setting"),
    "lit_modules.networks": (
        "lit_modules.networks",
        "lit_modules.layers",
        "lit_modules.functional",
        "lit_modules.configs",
    ),
    "lit_modules": ("lit_modules", "datamodules.info", "datamodules.setting"),
    "datamodules.configs": ("datamodules.configs", "datamodules.setting"),
    "datamodules": ("datamodules",),
    "experiments": PACKAGES,
}
"""What the files of a room may import of the three packages; the longest name that fits decides."""

WITHOUT_LIGHTNING = ("lit_modules.functional", "lit_modules.layers", "lit_modules.networks")
LONGEST_FILE = 350
SHARED_STEMS = ("__init__", "__main__", "base")
SCHEMAS = sorted(
    path
    for path in FILES
    if path.parent.name == "configs"
    or name(path)
    in ("experiments.config.trainer", "experiments.config.root", "experiments.config.steering_tasks")
)


def room(module: str) -> str:
    """The entry of REACH that a module belongs to."""
    return max((r for r in REACH if within(module, r)), key=len)


MODULES = {name(path) for path in FILES}


@cache
def imported_modules(path: Path) -> set[str]:
    """The product's own modules that a file imports, each as the file that it is."""
    found = set()
    for imported in imports(path):
        while imported and imported not in MODULES:
            imported = imported.rpartition(".")[0]
        found.add(imported)
    return found - {"", name(path)}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every strongly connected group of more than one file (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def forbidden_imports(path: Path) -> list[str]:
    """What a file imports although its room may not."""
    here = name(path)
    heavy = ("lightning", "pytorch_lightning", "torchmetrics") if within(here, *WITHOUT_LIGHTNING) else ()
    own = [module for module in imports(path) if within(module, *PACKAGES, *heavy)]
    return [module for module in own if not within(module, *REACH[room(here)])]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_arrows_point_one_way(path: Path) -> None:
    assert forbidden_imports(path) == []


def test_no_circle_of_imports() -> None:
    assert circles({name(path): imported_modules(path) for path in FILES}) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_commands_are_imported_by_nobody(path: Path) -> None:
    modules = imported_modules(path)
    assert "experiments.run" not in modules
    assert [module for module in modules if module.endswith(".__main__")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_the_rooms_that_it_should_have(package: str) -> None:
    rooms = {p.name for p in (REPOSITORY / package).iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert rooms <= set(ROOMS[package].split())


def test_no_two_files_share_a_name() -> None:
    """A schema may be named for what it describes, and a benchmark for what it measures."""
    stems: dict[str, list[str]] = {}
    for path in FILES:
        if path.parent.name not in ("config", "configs", "benchmark") and path.stem not in SHARED_STEMS:
            stems.setdefault(path.stem, []).append(name(path))
    assert [modules for modules in stems.values() if len(modules) > 1] == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_fits_in_the_head(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_schemas_import_the_standard_library_and_each_other(path: Path) -> None:
    allowed = ("lit_modules.configs", "datamodules.configs", "datamodules.setting", "experiments.config")
    for module in imports(path):
        assert module.partition(".")[0] in sys.stdlib_module_names or within(module, *allowed), module


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


LIGHTNING_INTERNALS = ("fit_loop", "epoch_loop", "val_check_batch", "_results", "_logger_connector")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_one_file_touches_the_internals_of_lightning(path: Path) -> None:
    if name(path) == "experiments.training.lightning_adapter":
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute):
            of = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            is_private = of in ("trainer", "strategy") and node.attr.startswith("_")
            is_written = of == "trainer" and isinstance(node.ctx, ast.Store)
            where = f"line {node.lineno}: {of}.{node.attr}"
            assert (is_private, is_written) == (False, False), where
            assert node.attr not in LIGHTNING_INTERNALS, where


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
        "def f():\n    import lightning as L\n    from lit_modules.optim.optimizers import x\n"
        "    from lit_modules.functional.softmax import y\n    return torch.load('a')\n"
    )
    assert list(imports(bad)) == [
        "lightning",
        "lit_modules.optim.optimizers.x",
        "lit_modules.functional.softmax.y",
    ]
    assert [function for function, _ in calls(bad)] == ["torch.load"]
    monkeypatch.setitem(globals(), "REPOSITORY", tmp_path)
    assert forbidden_imports(bad) == ["lightning", "lit_modules.optim.optimizers.x"]
