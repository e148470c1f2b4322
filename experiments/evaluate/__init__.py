"""Evaluate a checkpoint on its own data set, or a language model on any text."""
