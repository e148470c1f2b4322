"""Benchmarks of speed and memory: `python -m experiments.benchmark NAME` runs the module NAME."""
