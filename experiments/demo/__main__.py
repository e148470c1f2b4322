"""Show one piece on a small example: ours, the library's, their difference, and what the usual mistake gives.

`experiments demo --list` shows the pieces by topic.
"""

import argparse
import sys
from pathlib import Path

from experiments import cli
from experiments.config.messages import nearest
from experiments.demo.pieces import Piece, listing, pieces
from experiments.errors import RunError, UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("demo", __doc__)
    add = parser.add_argument
    add("piece", nargs="?", type=_known, choices=list(pieces()), metavar="PIECE", help="the piece to show")
    add("--list", action="store_true", help="list the pieces by topic")
    add(
        "--plot",
        nargs="?",
        type=_png,
        const="",
        metavar="FILE.png",
        help="draw a picture too, if the piece has one; default: PIECE.png",
    )
    return parser


@cli.command
def main(arguments: list[str]) -> None:
    """Show the piece named on the command line."""
    options = build_parser().parse_args(arguments)
    if options.list:
        print(listing())
        return
    if options.piece is None:
        raise UserError("name a piece; --list shows them all")
    piece = pieces()[options.piece]
    picture = None if options.plot is None else _picture(piece, options.plot)
    _show(piece)
    if picture is not None:
        from experiments.demo.plots import draw

        draw(piece.name, picture)
        print(f"\npicture   {piece.picture}\n          {picture}")


def _show(piece: Piece) -> None:
    """Run a demo and print its outcome.

    Raises:
        RunError: We and the library differ.
    """
    from experiments.demo.printout import render
    from experiments.demo.running import run

    outcome = run(piece)
    print(render(piece, outcome))
    for result in outcome.results:
        if not result.difference <= result.tolerance:
            raise RunError(
                f"{piece.name}: {result.what}: we and {result.oracle} differ by {result.difference:.1e}, "
                f"more than {result.tolerance:.1e}"
            )


def _picture(piece: Piece, given: str) -> Path:
    """Return the file for the picture of a piece.

    Raises:
        UserError: The piece has no picture, or there is no such folder.
    """
    if not piece.picture:
        drawn = ", ".join(p.name for p in pieces().values() if p.picture)
        raise UserError(f"--plot: {piece.name} has no picture; these have one: {drawn}")
    path = Path(given or f"{piece.name}.png")
    if path.is_dir():
        raise UserError(f"--plot {path}: this is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {path.parent}")
    return path


def _known(name: str) -> str:
    if name not in pieces():
        raise argparse.ArgumentTypeError(
            f"there is no piece {name!r}{nearest(name, pieces())}; --list shows them all"
        )
    return cli.file_or_name(name)


def _png(name: str) -> str:
    if name and not name.lower().endswith(".png"):  # empty: the default
        raise argparse.ArgumentTypeError(f"{name!r} does not end in .png (the piece comes before --plot)")
    return cli.file_or_name(name)


if __name__ == "__main__":
    sys.exit(main(None))
