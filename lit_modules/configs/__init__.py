"""Schemas of models, optimizers and schedules; importing them imports no torch."""
