"""CLIP models: built, loaded, fed, and their features."""
