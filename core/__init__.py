"""c4c: find video clips by what a sentence says (CLIP4Clip on cached CLIP features)."""

__version__ = "0.1.0"
