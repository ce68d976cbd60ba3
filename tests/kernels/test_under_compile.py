"""The four operations inside ``torch.compile``: the same answers as outside."""

from collections.abc import Callable

import pytest
import torch

from c4c.kernels import (
    contrastive_loss,
    ground_truth_ranks,
    masked_mean_pool,
    topk_similarity,
)

QUERIES = torch.nn.functional.normalize(torch.randn(8, 64, generator=torch.manual_seed(0)))
GALLERY = torch.nn.functional.normalize(torch.randn(50, 64, generator=torch.manual_seed(1)))
FRAMES = torch.randn(4, 5, 64, generator=torch.manual_seed(2))
Work = Callable[[], torch.Tensor]


@pytest.mark.parametrize(
    ("work", "whole"),
    [
        (lambda: contrastive_loss(QUERIES, GALLERY[:8], torch.tensor(10.0)), True),
        (lambda: masked_mean_pool(FRAMES, torch.tensor([5, 3, 2, 1])), False),
        (lambda: topk_similarity(QUERIES, GALLERY, 5)[1], False),
        (lambda: ground_truth_ranks(QUERIES, GALLERY, torch.arange(8)), False),
    ],
    ids=["loss", "pool", "topk", "ranks"],
)
def test_an_operation_is_compiled_into_a_program(work: Work, whole: bool) -> None:
    """The loss as one graph; the others look at their arguments first, which breaks it."""
    torch._dynamo.reset()
    compiled = torch.compile(work, backend="eager", fullgraph=whole)
    torch.testing.assert_close(compiled(), work())
