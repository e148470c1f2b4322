"""Read texts and dictionaries, and turn them into files of tokens."""
