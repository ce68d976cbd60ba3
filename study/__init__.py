"""A grid of trainings described in a few lines: run, resumed, and told as a table."""
