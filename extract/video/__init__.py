"""A clip in, frames out."""
