"""Open a language model, ours or a published one, and stream its text."""
