"""Losses over in-batch similarities: how well each sentence finds its clip, and back.

In: a similarity matrix (logits), sentences down and clips across. Out: a scalar.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_HALF = (torch.float16, torch.bfloat16)


def symmetric_cross_entropy(similarity: Tensor) -> Tensor:
    """Mean of the text-to-video and the video-to-text cross entropy (paper, eq. 12 to 14).

    Args:
        similarity: logits [B, B], text i and clip i a pair.

    Returns:
        Scalar, in float32 or the logits' precision if that is higher.
    """
    logits = similarity.float() if similarity.dtype in _HALF else similarity
    truth = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
