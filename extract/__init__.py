"""Extraction: videos and sentences in, cached CLIP features (HDF5 shards) out."""
