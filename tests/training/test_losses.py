"""Losses against hand-made matrices that are not the same both ways."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from c4c.heads import HEADS
from c4c.training import task as task_module
from c4c.training.losses import mil_nce, symmetric_cross_entropy

TaskMaker = Callable[..., Any]


def by_definition(logits: torch.Tensor) -> float:
    """Mean over both directions of the mean of -log softmax at the diagonal."""
    total = 0.0
    for own, row, column in zip(logits.diagonal(), logits, logits.T, strict=True):
        for line in (row, column):
            total -= math.log(math.exp(own) / sum(math.exp(one) for one in line.tolist()))
    return total / (2 * len(logits))


def test_both_directions_count_by_hand() -> None:
    """Odds 3:2 and 1:1 along the rows, 3:1 and 1:2 down the columns."""
    logits = torch.tensor([[math.log(3), math.log(2)], [0.0, 0.0]])
    rows, columns = math.log(5 / 3) + math.log(2), math.log(4 / 3) + math.log(3)
    assert symmetric_cross_entropy(logits).item() == pytest.approx((rows + columns) / 4)
    assert rows != pytest.approx(columns)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_is_its_definition_in_full_precision(dtype: torch.dtype) -> None:
    logits = 4 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    loss = symmetric_cross_entropy(logits.to(dtype))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(by_definition(logits.to(dtype).double()), rel=1e-6)
    assert mil_nce(logits.to(dtype), 1).dtype == loss.dtype


def test_gradients_of_both_directions_by_finite_differences() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double()
    assert torch.autograd.gradcheck(symmetric_cross_entropy, logits.requires_grad_())


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_is_trained_by_both_directions_of_its_own_logits(
    name: str, feature_task: TaskMaker
) -> None:
    task = feature_task(head=name)
    task.train_mode(False)
    batch, text = task.inputs(range(5))
    task.head.logit_scale.data.fill_(math.log(8))
    logits = task.head(batch, text)
    loss = task.loss(batch, text)
    assert loss.item() == pytest.approx(by_definition(logits.detach().double()), rel=1e-5)
    names, parameters = zip(*task.head.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    wanted = torch.autograd.grad(symmetric_cross_entropy(logits), parameters, allow_unused=True)
    for one, mine, theirs in zip(names, found, wanted, strict=True):
        if theirs is None:
            assert mine is None, one
            continue
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6, msg=one)


@pytest.mark.parametrize("name", ["meanP", "tightTransf"])
def test_the_objective_asked_for_is_the_one_that_trains(name: str, feature_task: TaskMaker) -> None:
    task = feature_task(head=name, objective="mil-nce", pairs=2, batch=6)
    task.train_mode(False)
    batch, text = task.inputs(range(6))
    logits = task.head(batch, text)
    assert task.loss(batch, text).item() == pytest.approx(mil_nce(logits, 2).item(), rel=1e-6)
    assert task.loss(batch, text).item() != pytest.approx(
        symmetric_cross_entropy(logits).item(), rel=1e-3
    )


@pytest.mark.parametrize("name", list(HEADS))
def test_bfloat16_is_used_where_it_is_asked_for_and_parameters_stay_wide(
    name: str, feature_task: TaskMaker
) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        task = feature_task(head=name, precision=precision)
        task.train_mode(False)
        losses.append(task.loss(*task.inputs(range(6))))
        losses[-1].backward()
        assert losses[-1].dtype == torch.float32
        assert {one.dtype for one in task.head.parameters()} == {torch.float32}
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    # Unit means and cosines of meanP are made in float32 either way.
    assert (losses[1].item() != losses[0].item()) == (name not in ("meanP", "seqLSTM"))


@pytest.mark.parametrize(
    ("precision", "device", "dtype"),
    [
        ("float32", "cuda", torch.float32),
        ("bfloat16", "cuda", torch.bfloat16),
        ("bfloat16", "cpu", torch.float32),
    ],
)
def test_only_a_gpu_is_given_vectors_in_the_precision_of_the_run(
    precision: str, device: str, dtype: torch.dtype
) -> None:
    assert task_module.loss_dtype(precision, device) == dtype


def test_vectors_in_half_precision_give_the_same_loss_and_gradient_but_for_rounding(
    feature_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, gradients = [], []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(task_module, "loss_dtype", lambda *_, dtype=dtype: dtype)
        task = feature_task(head="meanP")
        batch, text = task.inputs(range(6))
        text = text.clone().requires_grad_()
        loss = task.loss(batch, text)
        loss.backward()
        losses.append(loss.item())
        gradients.append(text.grad)
    # A cosine is rounded by about 2**-9 / sqrt(D), and then times 100.
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)
    aligned = torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=1)
    assert (aligned > 0.99).all()
