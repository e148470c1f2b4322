"""Write the figures of `docs/results.json` into the README, the docs and the heads of the configs.

    python docs/render.py            # rewrite every file that shows a figure
    python docs/render.py --check    # name the files that are not up to date

A figure is stored once, in `docs/results.json`. A document asks for it with a marker. This script writes
everything between the marker and `<!-- end -->`:

    <!-- results: mnist -->              a table with its commands and how it was measured
    <!-- configs: all -->                one row per config; or the names of some configs
    <!-- machine: all -->                the machine of all figures
    <!-- pictures: all -->               the picture of each config, with the commands that make it
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path
from typing import Any

from experiments.config.help import summary

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- (results|configs|machine|pictures): (.+?) -->\n.*?<!-- end -->", re.S)


class Figure(str):
    """A table's cell, such as `99.56 ± 0.08` or `182 (seed 0)`, with the formats that templates use."""

    def __format__(self, spec: str) -> str:
        """Return the whole cell, its `mean`, or its mean as a `time` in seconds or minutes."""
        if spec == "":
            return str(self)
        mean = re.split(r" ± | \(| \[", self)[0]
        if spec == "mean":
            return mean
        if spec == "time":
            seconds = float(mean.replace(",", ""))
            return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        raise ValueError(f"unknown format {spec!r}: use mean or time")


class Results:
    """The content of `docs/results.json`."""

    def __init__(self, path: Path = REPOSITORY / "docs" / "results.json") -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self.machine: str = content["machine"]
        self.tables: dict[str, dict[str, Any]] = content["tables"]
        self.configs: dict[str, dict[str, Any]] = content["configs"]
        self.figures = {
            name: {
                row[0]: dict(zip(table["columns"], map(Figure, row), strict=True)) for row in table["rows"]
            }
            for name, table in self.tables.items()
        }

    def fill(self, template: str) -> str:
        """Put figures into a template, where `{table[row][column]:format}` names one."""
        return template.format_map(self.figures)

    def table(self, name: str) -> str:
        """Render a table, its commands and how it was measured."""
        table = self.tables[name]
        lines = ["```sh", *table["commands"], "```", ""] if table["commands"] else []
        lines += markdown_table(list(table["columns"].values()), table["rows"])
        return "\n".join([*lines, "", textwrap.fill(table["measured"], 110, break_on_hyphens=False)])

    def config_table(self, names: list[str], folder: Path) -> str:
        """Render one row per config; `folder` is the document's folder."""
        rows = []
        for name in names:
            path = REPOSITORY / "configs" / f"{name}.yaml"
            config = self.configs[name]
            link = f"[{name}]({Path(relpath(path, folder)).as_posix()})"
            rows.append([link, summary(path), self.fill(config["result"]), self.fill(config["time"])])
        return "\n".join(markdown_table(["config", "what it shows", "result", "time"], rows))

    def pictures(self) -> str:
        """Render a section for each config. A picture of several configs is shown once."""
        shown: dict[str, str] = {}  # the config that shows a picture
        return "\n\n".join(self.picture(name, shown) for name in self.configs)

    def picture(self, name: str, shown: dict[str, str]) -> str:
        """Render the section of a config.

        A config may name its `pictures`, by default `NAME.png`, and the `commands` that make them. A config
        without a picture says why in `no_picture`.
        """
        config = self.configs[name]
        run = f"python -m experiments.run configs/{name}.yaml run_dir=runs/{name}"
        commands = config.get("commands", [run, f"python -m experiments.compare runs/{name}"])
        said = summary(REPOSITORY / "configs" / f"{name}.yaml")
        parts = [
            f"## {name}",
            said if said.endswith("?") else f"{said}.",
            "\n".join(["```sh", *commands, "```"]),
        ]
        if "no_picture" in config:
            parts.append(f"No picture: {config['no_picture']}")
            return "\n\n".join(parts)
        for file in config.get("pictures", [f"{name}.png"]):
            first = shown.setdefault(file, name)
            parts.append(
                f"![{name}](../pictures/{file})"
                if first == name
                else f"See the picture of [{first}](#{first})."
            )
        return "\n\n".join(parts)

    def document(self, path: Path) -> str:
        """Return a document's text with all marked blocks rendered."""

        def render(match: re.Match[str]) -> str:
            kind, names = match[1], match[2]
            if kind == "machine":
                body = textwrap.fill(self.machine, 110, break_on_hyphens=False)
            elif kind == "results":
                body = self.table(names)
            elif kind == "pictures":
                body = self.pictures()
            else:
                chosen = list(self.configs) if names == "all" else names.split()
                body = self.config_table(chosen, path.parent)
            return f"<!-- {kind}: {names} -->\n{body}\n<!-- end -->"

        return BLOCK.sub(render, path.read_text(encoding="utf-8"))

    def head(self, path: Path) -> str:
        """Return a config's text with the lines `Costs:` and `Reaches:` of its head rendered."""
        text = path.read_text(encoding="utf-8")
        lines = []
        for word in ("Costs", "Reaches"):
            first = f"# {word + ':':<9}"
            said = self.fill(self.configs[path.stem][word.lower()])
            lines.append(
                textwrap.fill(
                    said, 110, initial_indent=first, subsequent_indent="#".ljust(11), break_on_hyphens=False
                )
            )
        return re.sub(r"^# Costs:.*?(?=\n#\n)", lambda _: "\n".join(lines), text, count=1, flags=re.S | re.M)


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Render the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def rendered(results: Results) -> Iterator[tuple[Path, str]]:
    """Yield every file that shows figures, with its up-to-date text."""
    for path in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        yield path, results.document(path)
    for path in sorted((REPOSITORY / "configs").glob("*.yaml")):
        yield path, results.head(path)


def main(arguments: list[str]) -> int:
    """Rewrite the files, or only name those that would change."""
    stale = [(path, text) for path, text in rendered(Results()) if text != path.read_text(encoding="utf-8")]
    for path, text in stale:
        print(path.relative_to(REPOSITORY))
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
