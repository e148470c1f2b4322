"""One fit, from a checked config to a run directory."""
