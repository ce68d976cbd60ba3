"""Heads alone against the authors' code: similarity, loss and every gradient."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from c4c.core.records import FeatureBatch
from c4c.heads import HEADS
from c4c.interop.authors import NAMES, from_authors, ours, theirs

pytestmark = pytest.mark.golden
FOLDER = Path(os.environ.get("C4C_GOLDEN") or Path(__file__).parents[1] / "data" / "golden")
# Figures are float32; the gradients of parameters are kept as float16.
OUTPUT, GRADIENT = 1e-5, 1e-3


def close(found: torch.Tensor, wanted: np.ndarray, tolerance: float) -> None:
    """Within ``tolerance`` of the largest number in ``wanted``."""
    expected = torch.from_numpy(np.asarray(wanted, np.float64))
    # A float16 holds nothing finer than 6e-8, whatever the largest number is.
    room = tolerance * expected.abs().max().item() + (6e-8 if tolerance == GRADIENT else 0)
    torch.testing.assert_close(found.detach().double(), expected, rtol=0, atol=room)


@pytest.fixture(params=list(NAMES))
def golden(request: pytest.FixtureRequest) -> tuple[str, dict[str, np.ndarray]]:
    with np.load(FOLDER / f"{request.param}.head.npz") as stored:
        return request.param, dict(stored)


def load(name: str, figures: dict[str, np.ndarray]) -> torch.nn.Module:
    state = {
        key.removeprefix("state."): torch.from_numpy(value).float()
        for key, value in figures.items()
        if key.startswith("state.")
    }
    state["clip.logit_scale"] = torch.from_numpy(figures["logit_scale"])
    found, own, _ = from_authors(state)
    assert found == name
    positions = next((len(v) for k, v in own.items() if "position" in k), 77)
    layers = len({k.split(".")[2] for k in own if k.startswith("transformer.")}) or 1
    head = HEADS[name](figures["out.text_features"].shape[1], positions, layers)
    head.load_state_dict(own)
    return head.eval()


def inputs(figures: dict[str, np.ndarray]) -> tuple[FeatureBatch, torch.Tensor]:
    frames = torch.from_numpy(figures["out.frame_features"]).requires_grad_()
    text = torch.from_numpy(figures["out.text_features"]).requires_grad_()
    return FeatureBatch(frames, torch.from_numpy(figures["in.mask"].sum(1, dtype=np.int64))), text


def symmetric_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def test_golden_similarity_and_loss(golden: tuple[str, dict[str, np.ndarray]]) -> None:
    name, figures = golden
    similarity = load(name, figures)(*inputs(figures))
    close(similarity, figures["out.similarity"], OUTPUT)
    close(symmetric_cross_entropy(similarity), figures["out.loss"], OUTPUT)


def test_golden_gradients(golden: tuple[str, dict[str, np.ndarray]]) -> None:
    name, figures = golden
    head = load(name, figures)
    batch, text = inputs(figures)
    symmetric_cross_entropy(head(batch, text)).backward()
    close(batch.features.grad, figures["grad.frame_features"], GRADIENT)
    close(text.grad, figures["grad.text_features"], GRADIENT)
    wanted = {k.removeprefix("grad.param."): v for k, v in figures.items() if "grad.param" in k}
    parameters = dict(head.named_parameters())
    for key, value in wanted.items():
        close(parameters[ours(name, key)].grad, value, GRADIENT)


def test_golden_names_go_both_ways(golden: tuple[str, dict[str, np.ndarray]]) -> None:
    name, figures = golden
    for key in (k.removeprefix("state.") for k in figures if k.startswith("state.")):
        assert theirs(name, ours(name, key)) == key
