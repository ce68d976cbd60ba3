"""Temporal heads: frame features and text features in, a similarity matrix out."""
