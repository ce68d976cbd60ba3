"""Optimizer steps against AdamW written out: rates, decay, clipping, and who belongs where."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from c4c.training.config import TrainE2EConfig, TrainHeadConfig
from c4c.training.optim import LOGIT_SCALE_MAX, Optimizer, clamp_logit_scale, parameter_groups
from c4c.training.recipes import RECIPES, shifted_cosine, unshifted_cosine

# What may differ when a run is resumed: places, speed, and what is kept beside the result.
FREE = {
    "out", "device", "resume", "overwrite", "checkpoint_minutes", "workers", "tensorboard",
    "grad_checkpointing", "frames",
}  # fmt: skip


class Toy(nn.Module):
    """A matrix, a bias and a logit scale."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.matrix = nn.Parameter(torch.randn(3, 4, generator=generator).double())
        self.bias = nn.Parameter(torch.randn(4, generator=generator).double())
        self.logit_scale = nn.Parameter(torch.tensor(1.0).double())


def settings(**changes: Any) -> TrainHeadConfig:
    given = {"head": "meanP", "lr": 0.1, "coef_lr": 0.01, "clip_norm": 1.5, "weight_decay": 0.3}
    return TrainHeadConfig(**{**given, **changes})


def test_steps_are_those_of_adamw_clipped_all_together() -> None:
    head, clip = Toy(), Toy(1)
    optimizer = Optimizer([("clip", clip, 0.01), ("head", head, 1.0)], settings(), 10)
    parts = [(0.01, clip), (1.0, head)]
    state: dict[tuple[float, str], list[Any]] = {
        (rate, name): [value.detach().clone(), torch.zeros_like(value), torch.zeros_like(value)]
        for rate, module in parts
        for name, value in module.named_parameters()
    }
    generator = torch.Generator().manual_seed(1)
    for step in range(10):
        size = 3.0 if step % 2 else 0.1  # some are clipped, some are not
        given = {
            key: size * torch.randn(held[0].shape, generator=generator).double()
            for key, held in state.items()
        }
        for rate, module in parts:
            for name, value in module.named_parameters():
                value.grad = given[rate, name].clone()
        told = optimizer.step(step)
        whole = math.sqrt(sum(float(one.square().sum()) for one in given.values()))
        assert told["grad_norm"] == pytest.approx(whole)
        assert told["lr"] == pytest.approx(0.1 * shifted_cosine(step, 10, 0.1))
        for (rate, name), held in state.items():
            gradient = given[rate, name] * min(1.0, 1.5 / (whole + 1e-6))
            held[1] = 0.9 * held[1] + 0.1 * gradient
            held[2] = 0.98 * held[2] + 0.02 * gradient**2
            own = told["lr"] * rate
            decay = 0.3 if name == "matrix" else 0.0
            held[0] = held[0] * (1 - own * decay)
            mean = held[1] / (1 - 0.9 ** (step + 1))
            square = held[2] / (1 - 0.98 ** (step + 1))
            held[0] = held[0] - own * mean / (square.sqrt() + 1e-6)
    for rate, module in parts:
        for name, value in module.named_parameters():
            assert value.grad is None
            torch.testing.assert_close(value.detach(), state[rate, name][0], rtol=1e-9, atol=1e-12)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    toy = Toy()
    optimizer = Optimizer([("head", toy, 1.0)], settings(), 10)
    before = toy.matrix.detach().clone()
    toy.matrix.grad = torch.full_like(before, math.nan)
    assert math.isnan(optimizer.step(0)["grad_norm"])
    assert torch.equal(toy.matrix, before)
    assert toy.matrix.grad is None


def test_what_is_a_part_of_two_belongs_to_the_first_and_what_is_frozen_to_none() -> None:
    toy = Toy()
    toy.bias.requires_grad_(False)
    shared = nn.ModuleDict({"inner": toy})
    groups = parameter_groups(
        [("projections", toy, 0.1), ("head", shared, 1.0)], 0.3, RECIPES["c4c"], 0.01
    )
    told = [(one["names"], one["factor"], one["weight_decay"]) for one in groups]
    assert told == [
        (["projections.matrix"], 0.1, 0.3),
        (["projections.logit_scale"], 0.1, 0.0),
    ]
    theirs = parameter_groups([("head", Toy(), 1.0)], 0.3, RECIPES["authors"], 0.01)
    assert [(one["names"], one["factor"], one["weight_decay"]) for one in theirs] == [
        (["head.matrix"], 1.0, 0.3), (["head.bias"], 1.0, 0.0), (["head.logit_scale"], 0.01, 0.3),
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_moments_that_were_kept_go_on_as_they_were(recipe: str) -> None:
    def stepped(optimizer: Optimizer, toy: Toy, first: int, last: int) -> None:
        for step in range(first, last):
            for number, value in enumerate(toy.parameters()):
                value.grad = torch.full_like(value, math.sin(step + number))
            optimizer.step(step)

    whole, cut = Toy(), Toy()
    one = Optimizer([("head", whole, 1.0)], settings(recipe=recipe), 9)
    stepped(one, whole, 0, 9)
    before = Optimizer([("head", cut, 1.0)], settings(recipe=recipe), 9)
    stepped(before, cut, 0, 4)
    kept = before.state()
    assert {name.rpartition("/")[0] for name in kept} == {
        "head.matrix", "head.bias", "head.logit_scale",
    }  # fmt: skip
    stepped(before, Toy(), 0, 0)
    after = Optimizer([("head", cut, 1.0)], settings(recipe=recipe), 9)
    after.load_state({**kept, "head.matrix.else/exp_avg": torch.ones(1)})
    stepped(after, cut, 4, 9)
    for mine, theirs in zip(cut.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_nothing_to_train_is_no_error() -> None:
    toy = Toy().requires_grad_(False)
    optimizer = Optimizer([("head", toy, 1.0)], settings(), 3)
    assert optimizer.step(0)["grad_norm"] == 0
    assert optimizer.state() == {}
    optimizer.load_state({})


def test_the_schedule_by_hand() -> None:
    """Two rising steps of ten, then half a cosine from 1 down towards 0."""
    shares = [shifted_cosine(step, 10, 0.2) for step in range(10)]
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert shares[6] == pytest.approx(0.5)
    assert shares[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert [shifted_cosine(step, 4, 0.0) for step in (0, 2)] == pytest.approx([1.0, 0.5])
    assert shifted_cosine(0, 1, 0.1) == shifted_cosine(0, 1, 0.0) == 1.0
    assert shifted_cosine(12, 10, 0.2) == pytest.approx(0, abs=1e-12)
    assert unshifted_cosine(0, 4, 0.0) == 1.0
    assert unshifted_cosine(2, 4, 0.0) == pytest.approx(0.5)


def test_the_logit_scale_is_held_at_a_hundred() -> None:
    low, high = torch.tensor(1.0, requires_grad=True), torch.tensor(9.0, requires_grad=True)
    for scale in (low, high):
        clamp_logit_scale(scale)
    assert low.item() == 1
    assert high.exp().item() == pytest.approx(100)
    assert pytest.approx(math.log(100)) == LOGIT_SCALE_MAX


@pytest.mark.parametrize("kind", [TrainHeadConfig, TrainE2EConfig])
def test_every_setting_but_those_of_place_and_speed_binds_a_resumed_run(kind: Any) -> None:
    fields = {one.name for one in dataclasses.fields(kind)}
    more = {"dataset": "shapes"} if kind is TrainE2EConfig else {"cache": Path("c")}
    numbers = kind(head="meanP", init_head=Path("run"), **more).numbers()
    assert set(numbers) == fields - FREE
    assert numbers["init_head"] == "run"
