"""Loaders that resume at any batch, splits, folds and length buckets."""
