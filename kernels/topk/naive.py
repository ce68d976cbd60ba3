"""The definition of top-k search, from the whole matrix of scores."""

import torch
from torch import Tensor


def topk_similarity_reference(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The definition, from the whole matrix of scores in float64; min(k, N) columns."""
    scores = (queries.double()[:, None] * gallery.double()[None]).sum(2)
    order = torch.sort(scores, dim=1, descending=True, stable=True)
    return order.values[:, :k].float(), order.indices[:, :k]
