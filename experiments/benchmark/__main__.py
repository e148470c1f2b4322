"""Run a benchmark by name, print its table and write its measurements.

A benchmark is a module in this package with a function `run(options) -> Report`. A function
`add_arguments(parser)` declares its own options, if it has any. `--list` shows the first docstring line.
"""

import argparse
import ast
import importlib
import sys
import textwrap
from pathlib import Path
from types import ModuleType

from experiments import cli
from experiments.benchmark.harness import positive
from experiments.config.messages import nearest
from experiments.console import console
from experiments.errors import UserError


def build_parser(name: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command; for a benchmark, with its own options."""
    known = available()
    parser = cli.parser("benchmark", known[name] if name else textwrap.indent(_listing(known), "  "))
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="benchmark to run")
    add("--list", action="store_true", help="list the benchmarks")
    add("--repeats", type=positive, metavar="N", help="number of recorded turns (or seeds)")
    add("--json", type=cli.path, metavar="PATH", help="default: runs/benchmarks/NAME.json")
    add("--quick", action="store_true", help="run a tiny version, to test that it works")
    benchmark = _load(name) if name else None
    if benchmark is not None and hasattr(benchmark, "add_arguments"):
        benchmark.add_arguments(parser)
    return parser


@cli.command
def main(arguments: list[str]) -> int:
    """Run the benchmark named on the command line."""
    known = available()
    without_help = [word for word in arguments if word not in ("-h", "--help")]
    name = build_parser().parse_known_args(without_help)[0].name
    if name is not None and name not in known:
        raise UserError(
            f"there is no benchmark {name!r}{nearest(name, known)}; choose from {', '.join(known)}"
        )
    options = build_parser(name).parse_args(arguments)
    if options.list:
        print(_listing(known))
        return 0
    if name is None:
        raise UserError(f"give the name of a benchmark: {', '.join(known)}")
    path = options.json or Path("runs") / "benchmarks" / f"{name}.json"
    report = _load(name).run(options)
    report.show(console())
    report.write(path, ["python", "-m", "experiments.benchmark", *arguments])
    print(f"written to {path}")
    return 0


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.benchmark.{name}")


def available() -> dict[str, str]:
    """Return the first line of the docstring of each benchmark by name, without importing any benchmark."""
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
