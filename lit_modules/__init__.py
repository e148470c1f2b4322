"""Models: thin LightningModules over hand-written layers and pure functions.

Importing this package imports no torch, so schemas load in milliseconds.
"""
