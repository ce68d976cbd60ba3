"""Find video clips by what a sentence says: CLIP4Clip on cached CLIP features.

Nothing is imported before it is asked for, so ``import c4c`` takes no time
(docs/reference/python.md).
"""

TYPE_CHECKING = False  # type checkers take it for true; importing typing takes milliseconds
if TYPE_CHECKING:
    from c4c.cache.open import Cache as Cache
    from c4c.cache.writer import CacheWriter as CacheWriter
    from c4c.core.errors import C4CError as C4CError
    from c4c.core.records import Clip as Clip
    from c4c.core.version import __version__ as __version__
    from c4c.extract.backbone.load import load_backbone as load_backbone
    from c4c.face.features import decode_clip as decode_clip
    from c4c.face.features import extract_features as extract_features
    from c4c.face.learning import evaluate as evaluate
    from c4c.face.learning import load_head as load_head
    from c4c.face.learning import train_head as train_head
    from c4c.retrieval.searcher import Searcher as Searcher
    from c4c.serve.client import Client as Client

# Every public name, and where it is.
_NAMES = {
    "extract_features": "c4c.face.features",
    "Searcher": "c4c.retrieval.searcher",
    "Client": "c4c.serve.client",
    "train_head": "c4c.face.learning",
    "evaluate": "c4c.face.learning",
    "load_head": "c4c.face.learning",
    "load_backbone": "c4c.extract.backbone.load",
    "decode_clip": "c4c.face.features",
    "Clip": "c4c.core.records",
    "Cache": "c4c.cache.open",
    "CacheWriter": "c4c.cache.writer",
    "C4CError": "c4c.core.errors",
    "__version__": "c4c.core.version",
}
__all__ = list(_NAMES)  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'c4c' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
