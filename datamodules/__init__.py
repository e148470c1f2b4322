"""What models are trained on: verified assets and the LightningDataModules that serve them.

Importing this package imports no torch, so that schemas can be read in milliseconds.
"""
