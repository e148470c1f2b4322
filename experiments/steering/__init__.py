"""Learned steering of a frozen language model, from a prompt set to a table that compares the methods.

`docs/results/steering.md` describes the chain of stages.
"""
