"""Classify images, or write the answers of a sequence-to-sequence model to words."""
