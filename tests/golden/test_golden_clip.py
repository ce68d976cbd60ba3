"""A whole small CLIP with meanP against the authors' code: pixels and tokens in."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from c4c.core.records import FeatureBatch
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.heads.base import Head
from c4c.heads.checkpoint import make_head
from c4c.interop.authors import from_authors, shape_of

pytestmark = pytest.mark.golden
FOLDER = Path(os.environ.get("C4C_GOLDEN") or Path(__file__).parents[1] / "data" / "golden")
OUTPUT, GRADIENT = 1e-5, 1e-3


def close(found: torch.Tensor, wanted: np.ndarray, tolerance: float) -> None:
    expected = torch.from_numpy(np.asarray(wanted, np.float64))
    room = tolerance * expected.abs().max().item()
    torch.testing.assert_close(found.detach().double(), expected, rtol=0, atol=room)


@pytest.fixture(params=["2d", "3d"])
def figures(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"clip_{request.param}.npz") as stored:
        return dict(stored)


def load(figures: dict[str, np.ndarray], folder: Path) -> tuple[Head, Backbone]:
    state = {
        key.removeprefix("state."): torch.from_numpy(value)
        for key, value in figures.items()
        if key.startswith("state.")
    }
    name, own, clip = from_authors(state)
    save_file(clip, folder / "backbone.safetensors", {"quick_gelu": "true"})
    head = make_head(name, shape_of(name, own, clip), own)
    return head, load_backbone("auto", str(folder), device="cpu", precision="float32")


def test_golden_whole_model(figures: dict[str, np.ndarray], tmp_path: Path) -> None:
    head, backbone = load(figures, tmp_path)
    mask = torch.from_numpy(figures["in.mask"].astype(bool))
    video = torch.from_numpy(figures["in.video"]).float()
    frames = backbone.encode_video(video, mask.sum(1))
    text = backbone.encode_text(torch.from_numpy(figures["in.tokens"].astype(np.int64)))
    close(text, figures["out.text_features"], OUTPUT)
    close(frames[mask], figures["out.frame_features"][mask.numpy()], OUTPUT)

    frames.retain_grad()
    text.retain_grad()
    similarity = head(FeatureBatch(frames, mask.sum(1)), text)
    close(similarity, figures["out.similarity"], OUTPUT)
    target = torch.arange(len(text))
    loss = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
    close(loss, figures["out.loss"], OUTPUT)
    loss.backward()
    close(frames.grad, figures["grad.frame_features"], GRADIENT)
    close(text.grad, figures["grad.text_features"], GRADIENT)
