"""Operations on tensors that everything else is built from; nothing here knows of videos.

Four operations, each with a definition in plain torch (``naive.py``), a path for the
CPU and a Triton kernel for GPUs; the public function checks its arguments and picks one.
Names are imported on first use, so ``import c4c.kernels`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c4c.kernels.contrastive.op import contrastive_loss as contrastive_loss
    from c4c.kernels.pool.op import masked_mean_pool as masked_mean_pool
    from c4c.kernels.ranks.op import ground_truth_ranks as ground_truth_ranks
    from c4c.kernels.topk.index import GalleryIndex as GalleryIndex
    from c4c.kernels.topk.op import topk_similarity as topk_similarity

_HOME = {
    "GalleryIndex": "topk.index",
    "contrastive_loss": "contrastive.op",
    "ground_truth_ranks": "ranks.op",
    "masked_mean_pool": "pool.op",
    "topk_similarity": "topk.op",
}

__all__ = [
    "GalleryIndex",
    "contrastive_loss",
    "ground_truth_ranks",
    "masked_mean_pool",
    "topk_similarity",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
