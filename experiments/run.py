"""The command `python -m experiments.run CONFIG.yaml [MORE.yaml …] [key.path=value …]`."""

import sys

from experiments import run
from experiments.launch import main

if __name__ == "__main__":
    sys.exit(main(None))

# `import experiments.run` sets the attribute `run` of the package to what `sys.modules` has under this name.
# It is the function, so that `from experiments import run` gives the function in any order of imports.
sys.modules[__name__] = run  # type: ignore[assignment]
