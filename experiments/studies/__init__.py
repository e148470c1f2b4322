"""Many fits: variants and seeds, stages, tasks, baselines and their comparison."""
