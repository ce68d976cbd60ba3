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
    """MIL-NCE (Miech et al. 2020, eq. 1), as CLIP4Clip post-pretrains (paper, section 3.5).

    What a narrator says need not be what is shown just then, so a clip's texts are those of
    all ``pairs`` successive stretches of its video together. The middle stretch of each is
    scored: its clip against all texts, and its text against the clips of other videos.

    Args:
        similarity: logits [B, B], text i and clip i a pair; B a multiple of ``pairs``, the
            stretches of a video in a row.
        pairs: stretches that belong together.

    Returns:
        Scalar, in float32 or the logits' precision if that is higher.
    """
    logits = similarity.float() if similarity.dtype in _HALF else similarity
    group = torch.arange(len(logits), device=logits.device) // pairs
    middle = torch.arange(pairs // 2, len(logits), pairs, device=logits.device)
    same = group[middle][:, None] == group[None]
    texts = logits.T[middle]
    clips = logits[middle].masked_fill(same, -torch.inf)
    right = texts.masked_fill(~same, -torch.inf).logsumexp(1)
    loss: Tensor = (torch.cat((texts, clips), 1).logsumexp(1) - right).mean()
    return loss
