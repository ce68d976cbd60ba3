"""Masked mean pooling."""
