"""Optimizers by hand; `lit_modules.optim` builds them, or PyTorch's, by name."""
