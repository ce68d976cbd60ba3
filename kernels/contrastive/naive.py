"""The definition of the contrastive loss, from the whole matrix of logits."""

import torch
from torch import Tensor


def contrastive_loss_reference(text: Tensor, video: Tensor, logit_scale: Tensor | float) -> Tensor:
    """The definition, in plain torch."""
    logits = logit_scale * text @ video.T
    labels = torch.arange(len(text), device=text.device)
    t2v = torch.nn.functional.cross_entropy(logits, labels)
    v2t = torch.nn.functional.cross_entropy(logits.T, labels)
    return (t2v + v2t) / 2
