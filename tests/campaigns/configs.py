"""Check thousands of mutated configs: each is accepted or refused in one line, within two seconds.

    python -m tests.campaigns.configs --count 2000 --seed 0

The mutants are the published configs with changed, deleted, renamed, merged and nested values, with noise in
their YAML, and with overrides. Each failure prints its number; `--only NUMBER` repeats it.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from experiments.config.check import load_config, to_yaml
from experiments.config.sources import PUBLISHED
from experiments.errors import UserError

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


def mutant(number: int, seed: int) -> tuple[str, list[str]]:
    """Return the text of a mutated config and its overrides."""
    draw = random.Random(f"{seed}-{number}")
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
    """Return what went wrong with a mutant; `None` if it was accepted or properly refused."""
    file.write_text(text, encoding="utf-8")
    start = time.process_time()
    try:
        loaded = load_config(file, *overrides)
        if not loaded.children and load_config({**loaded.plain}).plain != loaded.plain:
            return "the saved config reads back differently"
        to_yaml(loaded.plain).encode()
    except UserError as error:
        if len(str(error)) > 2000 or len(str(error).splitlines()) != 1:
            return f"a message of {len(str(error))} characters: {str(error)[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - start
    return f"{seconds:.1f} s" if seconds > LIMIT_SECONDS else None


def main() -> int:
    """Check the mutants and print one line; the status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    failed = 0
    numbers = range(options.count) if options.only is None else [options.only]
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            text, overrides = mutant(number, options.seed)
            if reason := failure(text, overrides, Path(folder, "mutant.yaml")):
                failed += 1
                print(f"mutant {number} of seed {options.seed}: {reason}")
                if options.only is not None:
                    print(text, overrides)
    print(f"{len(numbers)} mutated configs, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
