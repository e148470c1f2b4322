"""Mutate configs, and give them to the check, the dry run and the real command.

    python -m tests.campaigns.configs --count 2000 --dry-runs 200 --runs 60 --seed 0

Half of the checked mutants are published configs with broken YAML and hostile values; the other half have
values within their schemas. Each must be accepted, or refused in one line, within two seconds. The mutants
for the dry run and the real command are small runs of all kinds, with values within their schemas. Such a
process must end in time, and either well or with one line that is not that of an unknown error.

The last line is the figure. The status is 1 if a mutant fails, and `--only NUMBER` repeats it.
"""

import argparse
import collections
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch.utils.tensorboard  # noqa: F401
import torchmetrics  # noqa: F401

import experiments.training.fit  # noqa: F401 - imported once, before the processes are forked
from experiments.config.check import load_config, to_yaml
from experiments.config.sources import NAMING, PUBLISHED
from experiments.errors import UserError
from tests.campaigns.run_kinds import run_kinds
from tests.campaigns.run_process import fork, run_here, wait
from tests.campaigns.valid_mutants import mutate

VALUES = (
    *("null", "true", "-1", "0", "1e300", ".nan", ".inf", "[]", "{}", "[[1]]", "''", "'\\0'", '"\\0"', "~"),
    *(
        "9" * 30,
        "9" * 5000,
        "0x" + "f" * 5000,
        "010",
        "no",
        "1:30",
        "x" * 5000,
        "ü\u202e",
        "???",
        "/dev/zero",
    ),
    *(
        "${seed}",
        "${a.b}",
        "${oc.env:HOME}",
        "${oc.${name}:HOME}",
        "${",
        "${trainer}",
        "${.x}",
        "${model.name}",
    ),
    *("&a [*a]", "*x", "!!float x", "!!python/name:os.system", "{<<: {a: 1}, <<: {b: 2}}", "[" * 300, "# x"),
)
NOISE = (*":[]{}-#&*!|>'\"%@`,?\n\t <~", "\x00", "\x1b[31m", "---\n", "? [1]\n: 2\n", "<<: *x\n", "${")
KEYS = (
    *("seed", "seeds", "run_dir", "name", "model", "data", "trainer", "optimizer", "stages", "variants.b"),
    *("model.width", "model.hidden", "data.batch_size", "data.root", "optimizer.lr", "trainer.devices"),
)
LIMIT_SECONDS = 2.0
"""Most seconds of a check."""
SMALL_DATA = ("digits", "hello", "digit_sequences", "table")
"""Data sets that are there without a download; pictures of digits stand in for MNIST."""
CAPS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
KEPT = (
    *CAPS,
    "max_epochs",
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "compile",
    "seeds",
    "num_workers",
)
"""Settings that keep a process small; those that start other processes have campaigns of their own."""


def hostile(draw: random.Random) -> tuple[str, list[str]]:
    """Return the text of a published config with broken YAML and hostile values, and overrides."""
    lines = draw.choice(sorted(PUBLISHED.glob("*.yaml"))).read_text(encoding="utf-8").splitlines()
    overrides: list[str] = []
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(lines))
        key, colon, _ = lines[place].partition(":")
        match draw.randrange(8):
            case 0:
                lines[place] = f"{key}: {draw.choice(VALUES)}"
            case 1:
                del lines[place : place + 1]
                lines = lines or [""]
            case 2:
                lines.insert(place, lines[draw.randrange(len(lines))])
            case 3:
                lines[place] = f"{key}{draw.choice('xé_.0')}{colon} {draw.choice(VALUES)}"
            case 4:
                at = draw.randrange(len(lines[place]) + 1)
                lines[place] = lines[place][:at] + draw.choice(NOISE) + lines[place][at:]
            case 5:
                lines.append(f"{draw.choice(KEYS)}: {draw.choice(VALUES)}")
            case 6:
                lines.append(f"{draw.choice(KEYS)}: " + "{a: " * 30 + "1" + "}" * 30)
            case _:
                overrides.append(f"{draw.choice(KEYS)}={draw.choice(VALUES)}")
    return "\n".join(lines) + "\n", overrides


def failure(text: str, overrides: list[str], file: Path) -> str | None:
    """Check a mutant; return what went wrong, an empty text if it was refused, and `None` if it is valid."""
    file.write_text(text, encoding="utf-8")
    start = time.process_time()
    refused = False
    try:
        loaded = load_config(file, *overrides)
        if not loaded.children and load_config({**loaded.plain}).plain != loaded.plain:
            return "the saved config reads back differently"
        to_yaml(loaded.plain).encode()
    except UserError as error:
        refused = True
        if len(str(error)) > 2000 or len(str(error).splitlines()) != 1:
            return f"a message of {len(str(error))} characters: {str(error)[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - start
    if seconds > LIMIT_SECONDS:
        return f"{seconds:.1f} s"
    return "" if refused else None


def ending(status: int, output: str) -> str | None:
    """Judge the end of a command as `failure` does."""
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    if status not in (0, 1, 2):
        return f"status {status}"
    if "Traceback" in output:
        return f"a traceback: {output[-300:]!r}"
    if len(errors) != (status != 0) or any("--debug" in line for line in errors):
        return f"status {status}: {errors}"
    return "" if status else None


class Mutants:
    """The configs to mutate, and the cases of one campaign."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.published = [load_config(path).plain for path in sorted(PUBLISHED.glob("*.yaml"))]
        self.small = [load_config(settings).plain for settings in run_kinds(folder, Path("data")).values()]
        self.small += [single for plain in self.published if (single := single_fit(plain)) is not None]

    def case(self, what: str, number: int) -> tuple[str | None, str]:
        """Run one case; return what `failure` returns, and the text of the mutant."""
        draw = random.Random(f"{self.seed}-{what}-{number}")
        file = self.folder / f"{what}_{number}.yaml"
        if what == "check":
            if number % 2:
                text, overrides = hostile(draw)
            else:
                text, overrides = to_yaml(mutate(draw.choice(self.published), draw, near=False)), []
            found = failure(text, overrides, file)
            file.unlink()
            return found, f"{text}{overrides}"
        plain = mutate(draw.choice(self.small), draw, near=True, keep=KEPT)
        file.write_text(to_yaml(plain), encoding="utf-8")
        arguments = [str(file), f"run_dir={file.with_suffix('')}", *caps(plain)]
        if what == "dry-run":
            arguments.append("--dry-run")
        log = file.with_suffix(".log")
        status = wait(fork(lambda: run_here(arguments), log))
        found = ending(status, log.read_text("utf-8"))
        if not found:
            for path in (file, log):
                path.unlink()
            shutil.rmtree(file.with_suffix(""), ignore_errors=True)
        return found, " ".join(arguments)


def single_fit(plain: dict[str, Any]) -> dict[str, Any] | None:
    """Return the base of a published config as one fit on small data; `None` if it needs a download."""
    single = {key: value for key, value in plain.items() if key not in (*NAMING, "seeds", "comparison")}
    if plain["data"]["name"] in ("mnist", "fashion_mnist"):
        single["data"] = {"name": "digits"}
    elif plain["data"]["name"] not in SMALL_DATA:
        return None
    try:
        return load_config(single).plain
    except UserError:  # a setting comes from its variants
        return None


def caps(plain: dict[str, Any]) -> list[str]:
    """Return overrides that make a run short."""
    short = [f"trainer.{key}=2" for key in CAPS]
    if plain["trainer"]["max_epochs"] is not None:
        short.append("trainer.max_epochs=1")
    return short + (["seeds=[0]"] if plain.get("seeds") else [])


def main() -> int:
    """Run the cases and print one line; the status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000, help="mutants to check; default: 2000")
    parser.add_argument("--dry-runs", type=int, default=200, help="mutants for the dry run; default: 200")
    parser.add_argument("--runs", type=int, default=60, help="mutants for the real command; default: 60")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutants; default: 0")
    parser.add_argument("--only", type=int, help="run the case of this number only")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="configs_")).resolve()
    mutants, figures, failed = Mutants(folder, options.seed), [], 0
    for what, count in (("check", options.count), ("dry-run", options.dry_runs), ("run", options.runs)):
        ends: collections.Counter[str] = collections.Counter()
        for number in range(count) if options.only is None else [options.only] * (count > 0):
            found, mutant = mutants.case(what, number)
            ends["valid" if found is None else "failed" if found else "refused"] += 1
            if found:
                print(f"{what} {number} of seed {options.seed}: {found}", flush=True)
            if options.only is not None:
                print(mutant)
        failed += ends["failed"]
        figures.append(f"{what}: {ends['valid']} valid, {ends['refused']} refused, {ends['failed']} failed")
    print(f"configs: {'; '.join(figures)}; seed {options.seed}")
    if not failed:
        shutil.rmtree(folder)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
