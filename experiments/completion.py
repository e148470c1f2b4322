"""Print a script that completes commands, configs, keys and values in a shell.

The script calls this command again, with `--line`, for each completion. To switch it on, add one of these
lines to the start-up file of the shell:

    bash:  eval "$(experiments completion bash)"
    zsh:   eval "$(experiments completion zsh)"
    fish:  experiments completion fish | source
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from experiments import cli
from experiments.commands import COMMANDS
from experiments.config import registry
from experiments.config.check import load_config
from experiments.config.describe import settings_of
from experiments.config.help import OPTIONS
from experiments.config.sources import PUBLISHED, SECTIONS, is_override
from experiments.errors import UserError

SCRIPTS = {
    # bash takes "=" for the end of a word, so a candidate is what follows it.
    "bash": """\
_experiments() {
    local line="${COMP_LINE:0:COMP_POINT}" candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ $candidate == *[.=] ]] && compopt -o nospace
        [[ ${line##* } == *=* ]] && candidate="${candidate#*=}"
        COMPREPLY+=("$candidate")
    done < <(experiments completion --line "$line" 2>/dev/null)
}
complete -o default -F _experiments experiments
""",
    "zsh": """\
_experiments() {
    local -a found
    found=(${(f)"$(experiments completion --line "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    (( $#found )) || _files
    compadd -S '' -- ${(M)found:#*[.=]}
    compadd -- ${found:#*[.=]}
}
compdef _experiments experiments
""",
    "fish": """\
complete --command experiments --arguments '(experiments completion --line (commandline -cp) 2>/dev/null)'
""",
}


def complete(line: str) -> list[str]:
    """List the possible completions of a command line.

    Args:
        line: The line up to the cursor, such as `experiments run mnist_cnn optimizer.`.

    Returns:
        Whole words. A word that ends in `.` or `=` is to be continued.
    """
    *before, current = line.split(" ")
    words = [word for word in before if word][1:]
    found: Iterable[str]
    if not words:
        found = COMMANDS
    elif words[0] == "run":
        found = _run_words(words[1:], current)
    else:
        found = _option_words(words[0], words[-1], current)
    return [word for word in found if word.startswith(current)]


def _run_words(words: Sequence[str], current: str) -> list[str]:
    """List configs, options and keys, or the values of a key."""
    if current.startswith("-"):
        return list(OPTIONS)
    files = [word for word in words if not word.startswith("-") and not is_override(word)]
    try:
        plain = load_config(*files).plain if files else {}
    except UserError:
        plain = {}
    choices = {f"{kind}.name": tuple(registry.CATALOG[kind]) for kind in SECTIONS}
    choices |= {setting.key: setting.choices for setting in settings_of(plain)}
    key, equals, _ = current.partition("=")
    if equals:
        return [f"{key}={value}" for value in choices.get(key, ())]
    configs = [path.stem for path in sorted(PUBLISHED.rglob("*.yaml"))]
    keys = [_next_part(key, len(current)) for key in choices if key.startswith(current)]
    return configs if not current and not files else [*configs, *dict.fromkeys(keys)]


def _next_part(key: str, start: int) -> str:
    """Cut a dotted key behind the first dot from `start` on; a whole key ends in `=`."""
    end = key.find(".", start)
    return f"{key}=" if end < 0 else key[: end + 1]


def _option_words(command: str, previous: str, current: str) -> list[str]:
    """List the options and choices of a command, or the choices of the option before the cursor."""
    if command not in COMMANDS:
        return []
    module = COMMANDS[command].load()
    if not hasattr(module, "build_parser"):
        return []
    words: list[str] = []
    for action in module.build_parser()._actions:
        choices = [str(choice) for choice in action.choices or ()]
        if choices and previous in action.option_strings:
            return choices
        if current.startswith("-"):
            words += action.option_strings
        elif not action.option_strings:
            words += choices
    return words


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = cli.parser("completion", __doc__)
    parser.add_argument("shell", nargs="?", choices=list(SCRIPTS), help="the shell that reads the script")
    parser.add_argument(
        "--line", metavar="TEXT", help="print the completions of this command line, one per line"
    )
    return parser


@cli.command
def main(arguments: list[str]) -> None:
    """Print a script, or complete a line; see `--help`."""
    options = build_parser().parse_args(arguments)
    if options.line is not None:
        print("\n".join(complete(options.line)))
    elif options.shell is not None:
        print(SCRIPTS[options.shell], end="")
    else:
        raise UserError(f"name a shell: {', '.join(SCRIPTS)}")


if __name__ == "__main__":
    sys.exit(main(None))
