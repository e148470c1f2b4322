"""The command `python -m experiments.run CONFIG.yaml [MORE.yaml …] [key.path=value …]`.

No code imports this file. From Python, call the function: `from experiments import run`.
"""

import sys

from experiments.launch import main

if __name__ == "__main__":
    sys.exit(main(None))
