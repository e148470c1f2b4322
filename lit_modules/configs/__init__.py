"""The schemas of models, optimizers and schedules; they import no torch."""
