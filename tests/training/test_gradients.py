"""Gradients in pieces are those of the whole batch, dropout and all, weighted as asked."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from c4c.core.records import FeatureBatch
from c4c.heads import build_head
from c4c.training.gradients import (
    accumulate_gradients,
    gradient_shares,
    random_state,
    restore_random,
)
from c4c.training.losses import symmetric_cross_entropy
from c4c.training.parallel import World
from c4c.training.recipes import RECIPES

TaskMaker = Callable[..., Any]
SIZE = 7
CPU = torch.device("cpu")


def spans(micro: int) -> list[tuple[int, int]]:
    step = micro or SIZE
    return [(low, min(low + step, SIZE)) for low in range(0, SIZE, step)]


def loaded(task: Any) -> Any:
    return task.load(range(SIZE), torch.Generator().manual_seed(0))


def by_definition(task: Any, micro: int) -> torch.Tensor:
    """Every piece with its graph, drawn in the order in which the pieces come."""
    inputs = loaded(task)
    parts = [task.encode(inputs, *span) for span in spans(micro)]
    frames, texts = (torch.cat(part) for part in zip(*parts, strict=True))
    if task.head.loose or not micro:
        logits = task.head(FeatureBatch(frames, inputs.lengths), texts)
    else:
        logits = torch.cat([
            torch.cat([
                task.head(FeatureBatch(frames[a:b], inputs.lengths[a:b]), texts[top:bottom])
                for a, b in spans(micro)
            ], 1)
            for top, bottom in spans(micro)
        ])  # fmt: skip
    loss = symmetric_cross_entropy(logits)
    loss.backward()
    return loss.detach()


def gradients(task: Any) -> dict[str, torch.Tensor]:
    found = {}
    for prefix, module, _ in task.modules():
        for name, value in module.named_parameters():
            if value.grad is not None:
                found[f"{prefix}.{name}"] = value.grad
    task.head.zero_grad(set_to_none=True)
    task.below.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("micro", [0, 3, 2, 1])
@pytest.mark.parametrize("name", ["meanP", "seqLSTM", "seqTransf", "tightTransf"])
@pytest.mark.parametrize("encoder", [False, True])
def test_pieces_of_a_batch_give_its_gradient_with_the_same_dropout_masks(
    encoder: bool, name: str, micro: int, feature_task: TaskMaker
) -> None:
    task = feature_task(head=name, encoder=encoder)
    task.train_mode(True)
    torch.manual_seed(3)
    expected_loss = by_definition(task, micro)
    expected, after = gradients(task), torch.rand(1)
    torch.manual_seed(3)
    loss = accumulate_gradients(task, loaded(task), micro, World())
    found = gradients(task)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected_loss)
    assert found.keys() == expected.keys()
    assert len(found) >= (5 if encoder else 1)
    for key, wanted in expected.items():
        torch.testing.assert_close(found[key], wanted, rtol=1e-4, atol=1e-6, msg=key)
    # What the pieces have drawn stays drawn: the next batch has masks of its own.
    assert torch.equal(torch.rand(1), after)


def test_masks_differ_from_piece_to_piece_and_from_batch_to_batch(
    feature_task: TaskMaker,
) -> None:
    task = feature_task(encoder=True)
    task.train_mode(True)
    torch.manual_seed(3)
    one, two, again = [], [], []
    for found, seed in ((one, None), (two, None), (again, 3)):
        if seed is not None:
            torch.manual_seed(seed)
        accumulate_gradients(task, loaded(task), 3, World())
        found.append(gradients(task)["below.0.0.weight"])
    assert torch.equal(one[0], again[0])
    assert not torch.allclose(one[0], two[0])


@pytest.mark.parametrize(
    ("name", "micro"), [("seqTransf", 0), ("seqTransf", 3), ("tightTransf", 3)]
)
def test_a_batch_weighs_as_much_as_is_asked_and_is_added_to_what_is_there(
    name: str, micro: int, feature_task: TaskMaker
) -> None:
    task = feature_task(head=name, encoder=True)
    task.train_mode(False)
    first, second = loaded(task), task.load(range(9, 15), torch.Generator())
    losses = [accumulate_gradients(task, inputs, micro, World()) for inputs in (first,)]
    alone = [gradients(task)]
    losses.append(accumulate_gradients(task, second, micro, World()))
    alone.append(gradients(task))
    weighted = [
        accumulate_gradients(task, first, micro, World(), 0.75),
        accumulate_gradients(task, second, micro, World(), 0.25),
    ]
    assert weighted == losses  # the loss itself is told without its weight
    for key, value in gradients(task).items():
        wanted = 0.75 * alone[0][key] + 0.25 * alone[1][key]
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6, msg=key)


def test_random_numbers_go_on_where_they_were_put_back() -> None:
    torch.manual_seed(5)
    state = random_state(CPU)
    drawn = torch.rand(3)
    torch.rand(8)
    restore_random(state, CPU)
    assert torch.equal(torch.rand(3), drawn)


@pytest.mark.parametrize("size", [1, 4])
def test_what_sums_over_processes_are_multiplied_by(size: int) -> None:
    """By the formulas: encoders are summed and heads averaged; the authors average all."""
    loose, tight = build_head("seqTransf", 16, layers=1), build_head("tightTransf", 16, layers=1)
    below = torch.nn.Parameter(torch.zeros(1))
    own, theirs = RECIPES["c4c"], RECIPES["authors"]
    cases = SimpleNamespace(head=next(loose.transformer.parameters()), scale=loose.logit_scale)
    shares = gradient_shares(loose, own, size)
    assert (shares(cases.head), shares(cases.scale), shares(below)) == (1 / size, 1 / size, 1.0)
    shares = gradient_shares(loose, theirs, size)
    assert shares(cases.head) == 1 / size**2
    assert shares(cases.scale) == 1 / size
    assert shares(below) == 1 / size
    shares = gradient_shares(tight, theirs, size)
    assert shares(next(tight.transformer.parameters())) == shares(below) == 1 / size
    assert gradient_shares(tight, own, size)(below) == 1.0
