"""Configs: read, check and describe them, without importing torch."""
