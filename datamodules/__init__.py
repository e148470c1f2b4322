"""Data: verified assets and the LightningDataModules that serve them.

Importing this package imports no torch, so schemas load in milliseconds.
"""
