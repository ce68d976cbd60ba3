"""The authors' numerics, against their definition in plain numbers."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from c4c.extract.backbone.load import load_backbone
from c4c.training.config import TrainHeadConfig
from c4c.training.layers import freeze
from c4c.training.optim import Optimizer
from c4c.training.recipes import RECIPES, unshifted_cosine


class Toy(nn.Module):
    """A matrix, a norm, a bias and a logit scale."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(3, 4, generator=generator).double())
        self.ln_1 = nn.LayerNorm(4, dtype=torch.float64)
        self.logit_scale = nn.Parameter(torch.tensor(1.0).double())


def test_the_authors_steps_are_those_of_their_definition() -> None:
    config = TrainHeadConfig(head="meanP", recipe="authors", lr=0.1, coef_lr=0.01, clip_norm=1.5)
    toy, steps = Toy(), 10
    optimizer = Optimizer([("head", toy, 1.0)], config, steps)
    expected = {name: value.detach().clone() for name, value in toy.named_parameters()}
    first = {name: torch.zeros_like(value) for name, value in expected.items()}
    second = {name: torch.zeros_like(value) for name, value in expected.items()}
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        given = {
            name: 2 * torch.randn(value.shape, generator=generator).double()
            for name, value in expected.items()
        }
        for name, value in toy.named_parameters():
            value.grad = given[name].clone()
        optimizer.step(step)
        whole = math.sqrt(sum(float(one.square().sum()) for one in given.values()))
        for name, value in expected.items():
            gradient = given[name] * min(1.0, 1.5 / (whole + 1e-6))  # all together
            gradient = gradient * min(1.0, 1 / (float(gradient.norm()) + 1e-6))  # then each
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.98 * second[name] + 0.02 * gradient**2
            update = first[name] / (second[name].sqrt() + 1e-6)
            update = update + (0.0 if "bias" in name else 0.2) * value
            rate = 0.1 * (0.01 if name == "logit_scale" else 1.0)
            expected[name] = value - rate * unshifted_cosine(step, steps, 0.1) * update
    for name, value in toy.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name], rtol=1e-9, atol=1e-12)


def test_the_authors_schedule_starts_at_nothing_and_jumps_after_the_warmup() -> None:
    shares = [unshifted_cosine(step, 100, 0.1) for step in range(100)]
    assert shares[0] == 0
    assert shares[5] == pytest.approx(0.5)
    assert shares[10] == pytest.approx(0.5 * (1 + math.cos(0.1 * math.pi)))
    assert max(shares) < 1
    own = [RECIPES["c4c"].schedule(step, 100, 0.1) for step in range(100)]
    assert own[0] > 0
    assert max(own) == 1


@pytest.mark.parametrize(
    ("recipe", "layers", "frozen"),
    [("c4c", 0, False), ("authors", 0, True), ("authors", -1, False), ("c4c", 1, True)],
)
def test_what_freezing_no_layer_means(recipe: str, layers: int, frozen: bool) -> None:
    model = load_backbone("tiny").model
    freeze(model, layers, RECIPES[recipe].freezes_stem)
    assert model.visual.conv1.weight.requires_grad is not frozen
    assert model.visual.transformer.resblocks[2].mlp.c_fc.weight.requires_grad


def test_a_run_keeps_the_moments_of_the_authors_numerics_and_ends_elsewhere(
    shapes_cache: Path, tmp_path: Path
) -> None:
    from c4c.heads.checkpoint import load_checkpoint
    from c4c.training.cached import train_head

    def settings(out: str, **changes: object) -> TrainHeadConfig:
        given = {"head": "seqLSTM", "batch": 16, "recipe": "authors", "epochs": 2, **changes}
        return TrainHeadConfig(cache=shapes_cache, out=tmp_path / out, **given)  # type: ignore[arg-type]

    result = train_head(settings("run"))
    state = load_checkpoint(result.last).state
    assert state is not None
    assert any(name.endswith("/exp_avg_sq") for name in state)
    own = train_head(settings("other", recipe="c4c"))
    mine, theirs = (load_checkpoint(one.last).head.lstm.weight_hh_l0 for one in (own, result))  # type: ignore[union-attr]
    assert not torch.equal(mine, theirs)
