"""What the options do that only one of the two trainings has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_runs import STILL, Run, Train, distance
from torch import Tensor

from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.tiny import WEIGHTS
from c4c.training import frames


@pytest.mark.shows("train-head", "--tune", "--coef-lr")
def test_projections_are_tuned_when_asked_and_at_their_own_rate(
    train: Train, shapes_root: Path, tmp_path: Path
) -> None:
    command = ["extract", "--dataset", "shapes", "--root", str(shapes_root), "--split", "val"]
    command += ["--cache", str(tmp_path / "hidden"), "--features", "hidden", "--backbone", "tiny"]
    assert CliRunner().invoke(group, [*command, "--workers", "1"]).exit_code == 0
    own = ("--cache", str(tmp_path / "hidden"), "--batch", "8", "--lr", "1e-3", "--warmup", "0",
           "--weight-decay", "0")  # fmt: skip
    left = train("train-head", *own, "--tune", "head").head
    moved = [
        distance(projections(train("train-head", *own, "--tune", "projections", *rate).head),
                 projections(left))
        for rate in (("--coef-lr", "0"), ("--coef-lr", "1"))
    ]  # fmt: skip
    assert moved == [0, pytest.approx(1e-3, rel=0.1)]


def projections(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: value for name, value in state.items() if name.startswith("projections.")}
    assert found
    return found


def moved_layers(run: Run) -> set[str]:
    """Names of the backbone's parameters that are no longer the shipped ones."""
    shipped = load_backbone("tiny").model.state_dict()
    return {name for name, value in run.backbone.items() if not torch.equal(value, shipped[name])}


@pytest.mark.shows("train-e2e", "--coef-lr", "--freeze-layers")
def test_the_backbone_learns_at_its_own_rate_and_not_in_frozen_layers(train: Train) -> None:
    assert moved_layers(train("train-e2e", "--coef-lr", "0")) == set()
    moved = moved_layers(train("train-e2e", "--freeze-layers", "3"))
    assert any("resblocks.3." in name for name in moved)
    assert not any(f"resblocks.{layer}." in name for name in moved for layer in (0, 1, 2))


@pytest.mark.shows("train-e2e", "--backbone", "--pretrained", "--linear-patch")
def test_a_backbone_is_taken_from_where_it_is_said_to_be(train: Train) -> None:
    shipped = load_backbone("tiny").model.state_dict()
    with pytest.raises(C4CError, match="--backbone auto has CLIP's tokenizer"):
        train("train-e2e", "--backbone", "auto", "--pretrained", str(WEIGHTS))
    own = train("train-e2e", *STILL, "--pretrained", str(WEIGHTS), "--linear-patch", "3d")
    kernel = own.backbone["visual.conv2.weight"]
    torch.testing.assert_close(kernel[:, :, 1], shipped["visual.conv1.weight"])
    chance = train("train-e2e", *STILL, "--pretrained", "none")
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert not torch.allclose(chance.backbone[name], shipped[name])


@pytest.mark.shows("train-e2e", "--grad-checkpointing")
def test_layers_are_computed_again_instead_of_kept(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip.transformer import ResidualAttentionBlock

    count = 0
    forward = ResidualAttentionBlock.forward

    def counting(self: Any, *args: Any, **named: Any) -> Tensor:
        nonlocal count
        count += 1
        return forward(self, *args, **named)

    monkeypatch.setattr(ResidualAttentionBlock, "forward", counting)
    once = train("train-e2e", "--batch", "8")
    plain, count = count, 0
    again = train("train-e2e", "--batch", "8", "--grad-checkpointing")
    assert (plain, count) == (8, 16)  # two towers of four layers, one step
    assert again.rows[0]["loss"] == pytest.approx(once.rows[0]["loss"], rel=1e-6)


@pytest.mark.shows("train-e2e", "--max-words", "--fps", "--frames", "--workers", "--decoder")
def test_frames_and_words_as_asked(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    decode = frames.decode_many
    monkeypatch.setattr(
        frames,
        "decode_many",
        lambda clips, request, workers: (
            asked.append((request.decoder, workers)) or decode(clips, request, workers)
        ),
    )
    pytest.importorskip("decord")
    run = train(
        "train-e2e", "--max-words", "5", "--fps", "0.5", "--frames", "decode", "--decoder",
        "decord", "--workers", "2", "--frame-cache", str(tmp_path / "none"),
    )  # fmt: skip
    assert run.seen.tokens == 5
    assert {len(rows) for rows in run.seen.frames.values()} == {4}
    assert asked == [("decord", 2)]
    assert not (tmp_path / "none").exists()
    assert run.meta["fingerprint"]["decoder"].startswith("decord")
