"""Find video clips by what a sentence says: CLIP4Clip on cached CLIP features."""

from c4c.core.version import __version__ as __version__
