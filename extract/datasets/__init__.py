"""Datasets: annotations and videos on disk in, a validated ``Dataset`` record out."""
