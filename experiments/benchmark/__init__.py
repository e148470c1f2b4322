"""Side-by-side measurements: `python -m experiments.benchmark NAME` runs the module NAME in here."""
