"""Damage files of every kind that the suite reads, at random, and read each by its real reader.

    python -m tests.campaigns.damages --count 1200 --seed 0

A reading ends in one of four ways: an error of one line for the user, the same result as before, another
result, or a crash. Another result is wrong for a file with a checksum. It is allowed for files without one,
such as a user's own text. The command prints one line. Its status is 1 if a result was silently wrong, a
reader crashed or a pickle ran code.
"""

import argparse
import collections
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.assets.fetch import AssetError
from experiments.errors import UserError
from experiments.training.checkpoint import CheckpointError
from tests.campaigns import damage_samples, malicious_pickles

ALLOWED = (UserError, CheckpointError, ValueError, AssetError, FileNotFoundError)
"""Exact types of the errors that a command turns into one line for the user."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of file.

    Attributes:
        name: What the file is.
        path: The file to damage.
        read: Reads it as the suite does, and returns plain data and tensors.
        has_proof: Whether any other result than that of the undamaged file is wrong.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    has_proof: bool = False


def flip(data: bytearray, rng: random.Random) -> None:
    """Flip one to eight bits."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def truncate(data: bytearray, rng: random.Random) -> None:
    """Cut the file anywhere."""
    del data[rng.randrange(len(data)) :]


def zero(data: bytearray, rng: random.Random) -> None:
    """Overwrite a block with zeros."""
    start, size = rng.randrange(len(data)), rng.choice((1, 16, 512, 4096))
    data[start : start + size] = bytes(len(data[start : start + size]))


def swap(data: bytearray, rng: random.Random) -> None:
    """Exchange two blocks."""
    size = min(rng.choice((4, 64, 512)), len(data) // 2)
    first, second = rng.randrange(len(data) - size + 1), rng.randrange(len(data) - size + 1)
    data[first : first + size], data[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )


def append(data: bytearray, rng: random.Random) -> None:
    """Add bytes to the end."""
    data += rng.randbytes(rng.choice((1, 7, 512)))


def empty(data: bytearray, rng: random.Random) -> None:
    """Leave nothing."""
    data.clear()


DAMAGES = (flip, flip, flip, truncate, zero, swap, append, empty)


def outcome(kind: Kind, expected: str) -> str:
    """Read a damaged file, and name how that ended."""
    try:
        found = damage_samples.fingerprint(kind.read())
    except Exception as error:
        lines = str(error).count("\n")
        if type(error) not in ALLOWED or (lines and not isinstance(error, AssetError)):
            return f"crash: {type(error).__name__}: {str(error)[:200]!r}"
        return "refused"
    if found == expected:
        return "unchanged"
    return "silently wrong" if kind.has_proof else "read without proof"


def campaign(kinds: list[Kind], count: int, rng: random.Random) -> Iterator[tuple[Kind, str, str]]:
    """Yield the kind, damage and outcome of each case; the kinds take turns."""
    originals = {kind.name: kind.path.read_bytes() for kind in kinds}
    expected = {kind.name: damage_samples.fingerprint(kind.read()) for kind in kinds}
    for number in range(count):
        kind = kinds[number % len(kinds)]
        damage = rng.choice(DAMAGES)
        data = bytearray(originals[kind.name])
        damage(data, rng)
        kind.path.write_bytes(data)
        try:
            yield kind, damage.__name__, outcome(kind, expected[kind.name])
        finally:
            kind.path.write_bytes(originals[kind.name])


def main() -> int:
    """Run the campaign and print its figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1200, help="number of damages; default: 1200")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damages; default: 0")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kinds = [Kind(**values) for values in damage_samples.make(Path(folder))]
        ends: collections.Counter[str] = collections.Counter()
        for kind, damage, end in campaign(kinds, options.count, random.Random(options.seed)):
            ends[end.partition(":")[0]] += 1
            if end.startswith(("crash", "silently")):
                print(f"{kind.name}, {damage}: {end}", flush=True)
        ran = malicious_pickles.run_code(Path(folder))
    print(
        f"{options.count} damages of {len(kinds)} kinds of file: {ends['refused']} refused, "
        f"{ends['unchanged']} read unchanged, {ends['read without proof']} read without proof, "
        f"{ends['silently wrong']} silently wrong, {ends['crash']} crashes; "
        f"{malicious_pickles.COUNT} malicious pickles, {ran} ran; {time.monotonic() - begun:.0f} s"
    )
    return int(bool(ends["silently wrong"] or ends["crash"] or ran))


if __name__ == "__main__":
    sys.exit(main())
