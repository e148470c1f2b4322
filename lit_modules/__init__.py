"""What is trained: thin LightningModules over hand-written layers and pure functions.

Importing this package imports no torch, so that schemas can be read in milliseconds.
"""
