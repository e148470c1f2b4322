"""Read, augment and normalise images."""
