"""Runs one benchmark by name, prints its table and writes its measurements.

A benchmark is a module beside this one with a one-line docstring and `run(options) -> Report`; where it
takes options of its own, `add_arguments(parser)` declares them.
"""

import argparse
import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

from experiments import cli
from experiments.benchmark.harness import positive
from experiments.config.registry import nearest
from experiments.console import console
from experiments.errors import UserError


def build_parser(name: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command; for a benchmark, with its own options."""
    known = available()
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description=known[name] if name else _listing(known),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="the benchmark to run")
    add("--list", action="store_true", help="print the benchmarks and what each measures")
    add("--repeats", type=positive, metavar="N", help="recorded turns (or seeds) of each")
    add("--json", type=Path, metavar="PATH", help="default: runs/benchmarks/NAME.json")
    add("--quick", action="store_true", help="a tiny version: that it works, not its figures")
    benchmark = _load(name) if name else None
    if benchmark is not None and hasattr(benchmark, "add_arguments"):
        benchmark.add_arguments(parser)
    return parser


@cli.command
def main(arguments: list[str]) -> int:
    """Run the benchmark that the command line names; see `--help`."""
    known = available()
    without_help = [word for word in arguments if word not in ("-h", "--help")]
    name = build_parser().parse_known_args(without_help)[0].name
    if name is not None and name not in known:
        raise UserError(
            f"no benchmark is called {name!r}{nearest(name, known)}; choose from {', '.join(known)}"
        )
    options = build_parser(name).parse_args(arguments)
    if options.list:
        print(_listing(known))
        return 0
    if name is None:
        raise UserError(f"name a benchmark: {', '.join(known)}")
    path = options.json or Path("runs") / "benchmarks" / f"{name}.json"
    report = _load(name).run(options)
    report.show(console())
    report.write(path, ["python", "-m", "experiments.benchmark", *arguments])
    print(f"written to {path}")
    return 0


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.benchmark.{name}")


def available() -> dict[str, str]:
    """Name → first line of the docstring of every benchmark, read from its source: nothing is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def _listing(known: dict[str, str]) -> str:
    width = max(map(len, known), default=0)
    return "\n".join(f"{name:{width}}  {summary}" for name, summary in known.items())


if __name__ == "__main__":
    sys.exit(main(None))
