"""Every public name of `layers`, `functional` and `optim` is reached by a demo or a published config.

A name is a public function, class or constant at the top of a file. The graph is read off the source: a
definition leads to every definition that it mentions; a variable of the same name is no mention. It begins at
the demos, at the models and objectives that the published configs name, at their dashboards, and at the files
of `experiments` that a person starts.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from experiments.config import registry
from experiments.config.check import load_config
from experiments.config.sources import PUBLISHED

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARIES = ("lit_modules.layers", "lit_modules.functional", "lit_modules.optim")
KERNELS = "lit_modules.layers.attention_kernels"
Name = tuple[str, str]
"""A module and a name in it; the name is empty for what the module itself runs."""


def _read(node: ast.AST, variables: frozenset[str] = frozenset()) -> Iterator[ast.AST]:
    """Every node below, without the variables of functions and comprehensions."""
    if isinstance(node, ast.Name) and node.id in variables:
        return
    yield node
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        bodies = [*(node.body if isinstance(node.body, list) else [node.body])]
        outside = [child for child in ast.iter_child_nodes(node) if child not in bodies]
        own = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        bodies, outside, own = list(ast.iter_child_nodes(node)), [], set()
    else:
        bodies, outside, own = [], list(ast.iter_child_nodes(node)), set()
    for child in outside:
        yield from _read(child, variables)
    stored = (n for body in bodies for n in ast.walk(body) if isinstance(n, ast.Name))
    inside = variables | own | {n.id for n in stored if isinstance(n.ctx, ast.Store)}
    for child in bodies:
        yield from _read(child, inside)


class Source:
    """The definitions of one file, and what each mentions."""

    def __init__(self, module: str, text: str, is_module: "frozenset[str]") -> None:
        self.module, self.is_module = module, is_module
        self.is_command = module.endswith(".__main__") or '__name__ == "__main__"' in text
        tree = ast.parse(text)
        self.imported: dict[str, Name] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = (node.module, alias.name)
        self.nodes: dict[str, list[ast.stmt]] = {}
        for statement in tree.body:
            for name in self._owners(statement):
                self.nodes.setdefault(name, []).append(statement)

    def _owners(self, node: ast.stmt) -> list[str]:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if node.name == "_":  # registered with a function of `singledispatch`
                return [ast.unparse(node.decorator_list[0]).partition(".")[0]]
            return [node.name]
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        return names or ([] if isinstance(node, (ast.Import, ast.ImportFrom)) else [""])

    def mentions(self, name: str) -> Iterator[Name]:
        """What a definition mentions, as far as it is the product's own."""
        for statement in self.nodes.get(name, []):
            for node in _read(statement):
                if isinstance(node, ast.Name):
                    yield from self._found(node.id)
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    module = ".".join(self.imported.get(node.value.id, ("", "")))
                    if module in self.is_module:
                        yield module, node.attr
        yield self.module, ""

    def _found(self, name: str) -> Iterator[Name]:
        if name in self.nodes:
            yield self.module, name
        elif name in self.imported:
            yield self.imported[name]

    def public(self) -> list[Name]:
        return [(self.module, name) for name in self.nodes if name and not name.startswith("_")]


def read_package(root: Path, *packages: str) -> dict[str, Source]:
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }
    modules = frozenset(paths)
    return {module: Source(module, path.read_text("utf-8"), modules) for module, path in paths.items()}


def reached(sources: dict[str, Source], start: set[Name]) -> set[Name]:
    """Every name that the first names lead to."""
    found, waiting = set(start), list(start)
    while waiting:
        module, name = waiting.pop()
        source = sources.get(module)
        if source is None:
            continue
        following = source.mentions(name) if name in source.nodes or not name else source._found(name)
        new = set(following) - found
        found |= new
        waiting += new
    return found


def all_of(sources: dict[str, Source], module: str) -> set[Name]:
    return {(module, name) for name in sources[module].nodes}


@cache
def roots() -> frozenset[Name]:
    sources = read_package(REPOSITORY, "experiments", "lit_modules")
    found: set[Name] = set()
    for module, source in sources.items():
        is_start = source.is_command and not module.startswith("experiments.benchmark")
        if is_start or module == "experiments" or module.startswith("experiments.demo."):
            found |= all_of(sources, module)
    targets = list(registry.DASHBOARDS.values())
    for path in sorted(PUBLISHED.glob("*.yaml")):
        config = load_config(path)
        for part in [config, *(child.config for child in config.children)]:
            names = {"model": part.model, "objective": part.objective, "task": part.task}
            entries = [registry.CATALOG[kind][section.name] for kind, section in names.items() if section]
            targets += [entry.target for entry in entries if isinstance(entry.target, str)]
    for target in targets:
        module, _, name = target.partition(":")
        found.add((module, name))
    return frozenset(found)


def library_names() -> list[Name]:
    sources = read_package(REPOSITORY, "lit_modules")
    # `triton_attention` imports these kernels only where Triton is installed, as a value.
    sources = {module: source for module, source in sources.items() if module != KERNELS}
    return [
        name for module, source in sources.items() if module.startswith(LIBRARIES) for name in source.public()
    ]


@cache
def everything() -> frozenset[Name]:
    return frozenset(reached(read_package(REPOSITORY, "experiments", "lit_modules"), set(roots())))


@pytest.mark.parametrize("name", library_names(), ids=".".join)
def test_a_public_name_is_reached_by_a_config_or_a_demo(name: Name) -> None:
    assert name in everything(), "no published config and no demo uses it: show it in a demo, or delete it"


def test_a_name_that_nothing_uses_is_found(tmp_path: Path) -> None:
    layers = tmp_path / "lit_modules" / "layers"
    layers.mkdir(parents=True)
    (layers / "__init__.py").write_text("from lit_modules.layers.a import used\n")
    (layers / "a.py").write_text(
        "def used():\n    return _helper()\ndef _helper():\n    return deep\n"
        "def deep(): ...\ndef lonely(): ...\n"
    )
    (layers / "b.py").write_text("from lit_modules.layers import a\nTABLE = {'x': a.lonely}\ndef f(): ...\n")
    sources = read_package(tmp_path, "lit_modules")
    found = reached(sources, {("lit_modules.layers", "used")})
    assert ("lit_modules.layers.a", "deep") in found
    assert ("lit_modules.layers.a", "lonely") not in found
    assert ("lit_modules.layers.a", "lonely") in reached(sources, {("lit_modules.layers.b", "TABLE")})
    assert sources["lit_modules.layers.a"].public()[-1] == ("lit_modules.layers.a", "lonely")


@pytest.mark.parametrize(
    ("code", "is_mentioned"),
    [
        ("def f():\n    return lonely()", True),
        ("def f():\n    def g():\n        return lonely\n    return g", True),
        ("class C:\n    def m(self):\n        return lonely()", True),
        ("class C:\n    lonely = 1\n    def m(self):\n        return lonely()", True),
        ("def f(x=lonely): ...", True),
        ("def f(lonely):\n    return lonely", False),
        ("def f():\n    lonely = 1\n    return lonely", False),
        ("def f(x):\n    return [lonely for lonely in x]", False),
        ("def f(x):\n    return sorted(x, key=lambda lonely: lonely)", False),
        ("def f(x):\n    with x as lonely:\n        return lonely", False),
        ("def f(x):\n    return x.lonely", False),
        ("def f():\n    'lonely'", False),
    ],
)
def test_a_variable_of_the_same_name_is_no_mention(code: str, is_mentioned: bool) -> None:
    source = Source("m", f"def lonely(): ...\n{code}\n", frozenset(["m"]))
    (name,) = source.nodes.keys() - {"lonely"}
    assert (("m", "lonely") in source.mentions(name)) is is_mentioned
