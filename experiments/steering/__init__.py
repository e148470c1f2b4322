"""Learned steering of a frozen language model, from a prompt set to a table that compares the ways to steer.

What a chain of stages runs besides training; see `docs/steering.md`.
"""
