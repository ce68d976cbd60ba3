"""Ranks of the ground truth."""
