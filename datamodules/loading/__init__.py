"""Serve batches: loaders whose position a checkpoint can hold, splits and buckets."""
