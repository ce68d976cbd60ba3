"""Retrieval: gallery vectors in, ranked clips, metrics and reports out."""
