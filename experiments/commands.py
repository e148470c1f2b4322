"""The table of commands, for the console command, the help, shell completion and the reference."""

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Command:
    """One command."""

    place: str  # the module with its `main`, or the package with a `__main__` that has it
    help: str  # what it does, in one line

    def load(self) -> ModuleType:
        """Import the module that has the command's `main`, and its `build_parser` if it has options."""
        module = importlib.import_module(self.place)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{self.place}.__main__")
        return module


COMMANDS = {
    "run": Command("experiments.launch", "Train and test what a config describes."),
    "evaluate": Command("experiments.evaluate", "Test a checkpoint again, or score a text with it."),
    "predict": Command("experiments.predict", "Classify images, or predict an answer for each word."),
    "sample": Command("experiments.sample", "Continue texts with a language model, or talk to it."),
    "compare": Command("experiments.compare", "Compare finished runs in a table."),
    "extract": Command("experiments.extract", "Save the hidden states of a language model."),
    "steering": Command("experiments.steering", "Make a steering vector from contrasting sentences."),
    "steering.floor": Command(
        "experiments.steering.floor", "Compute the lowest error that a steering network can reach."
    ),
    "demo": Command("experiments.demo", "Show one piece: ours, the library's, and the usual mistake."),
    "benchmark": Command("experiments.benchmark", "Measure speed and memory."),
    "completion": Command("experiments.completion", "Print a completion script for bash, zsh or fish."),
}


def overview() -> str:
    """List the commands, one line each."""
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(f"  {name:<{width}}{command.help}" for name, command in COMMANDS.items())
