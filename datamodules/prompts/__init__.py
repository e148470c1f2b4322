"""Prompt sets for steering, and the reader of their files."""
