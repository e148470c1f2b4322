"""Classify images, or predict answers for words with a sequence-to-sequence model."""
