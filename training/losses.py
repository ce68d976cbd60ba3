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


def mil_nce(similarity: Tensor, pairs: int) -> Tensor:
    """MIL-NCE: any of a clip's sentences may be the right one, none need be.

    Args:
        similarity: logits [B * pairs, B]; rows ``i * pairs`` and following are clip i's.
        pairs: sentences a clip.

    Returns:
        Scalar: mean over clips of ``-log(own / (own + others))``, where ``own`` sums the
        exponentials of a clip with its sentences, and ``others`` those of the clip with other
        sentences and of its sentences with other clips.
    """
    logits = similarity.float() if similarity.dtype in _HALF else similarity
    count = logits.shape[1]
    owner = torch.arange(count, device=logits.device)
    own = owner.repeat_interleave(pairs)[:, None] == owner
    positive = logits.masked_fill(~own, -torch.inf).logsumexp(0)
    other_clips = logits.masked_fill(own, -torch.inf).view(count, -1).logsumexp(1)
    return (torch.logaddexp(logits.logsumexp(0), other_clips) - positive).mean()
