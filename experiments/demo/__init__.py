"""The command `experiments.demo`: each piece on a small example, beside the library and the usual mistake."""
