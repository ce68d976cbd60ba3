"""Checkpoints of other people's code, in and out."""
