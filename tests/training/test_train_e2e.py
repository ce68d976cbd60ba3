"""End-to-end training: the backbone learns, can be frozen, and serves extraction afterwards."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import warm

from c4c.cache.open import Cache
from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.extract.backbone.load import load_backbone
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets import load_dataset
from c4c.extract.pipeline import run_extract
from c4c.heads import HEADS
from c4c.heads.checkpoint import load_checkpoint
from c4c.retrieval.session import RetrieveConfig, run_evaluate
from c4c.training.cached import start_head, train_head
from c4c.training.config import TrainE2EConfig, TrainHeadConfig
from c4c.training.e2e import E2ETask, train_e2e
from c4c.training.evaluation import score
from c4c.training.gradients import accumulate_gradients
from c4c.training.journal import read_journal
from c4c.training.layers import checkpoint_layers
from c4c.training.parallel import World
from c4c.training.split_frames import split_frames


def config(root: Path, folder: Path, **changes: object) -> TrainE2EConfig:
    settings: dict[str, object] = {"head": "meanP", "epochs": 1, "batch": 16, "coef_lr": 1.0}
    return TrainE2EConfig(
        dataset="shapes",
        root=root,
        backbone="tiny",
        frame_cache=folder / "frames",
        workers=1,
        **{"out": folder / "run", **settings, **changes},  # type: ignore[arg-type]
    )


def moved(checkpoint: Path) -> set[str]:
    """Names of the backbone's parameters that differ from the shipped ones."""
    before = load_backbone("tiny").model.state_dict()
    after = load_backbone("tiny", str(checkpoint)).model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_trained_backbone_extracts_and_fits_its_head(shapes_root: Path, tmp_path: Path) -> None:
    result = train_e2e(config(shapes_root, tmp_path))
    assert load_checkpoint(result.checkpoint).has_backbone
    assert len(moved(result.checkpoint)) > 50
    cache = tmp_path / "cache"
    run_extract(
        ExtractConfig(
            dataset="shapes",
            root=shapes_root,
            cache=cache,
            splits=("val",),
            backbone="tiny",
            pretrained=str(result.checkpoint),
            workers=1,
        )
    )
    found = run_evaluate(RetrieveConfig(cache=cache, checkpoint=result.checkpoint, split="val"))
    # The same figures as training saw, but for the cache's half precision.
    assert found.metrics["t2v"].r5 == pytest.approx(result.metrics["t2v_r5"], abs=13)
    assert (
        Cache.open(cache).fingerprint.sha256 == load_backbone("tiny", str(result.checkpoint)).sha256
    )


def test_a_head_of_another_backbone_is_refused(
    shapes_root: Path, shapes_cache: Path, tmp_path: Path
) -> None:
    result = train_e2e(config(shapes_root, tmp_path))
    with pytest.raises(C4CError, match="another backbone"):
        run_evaluate(RetrieveConfig(cache=shapes_cache, checkpoint=result.checkpoint))


def test_frozen_layers_stay_and_the_others_move(shapes_root: Path, tmp_path: Path) -> None:
    result = train_e2e(config(shapes_root, tmp_path, freeze_layers=3))
    changed = moved(result.checkpoint)
    assert any("resblocks.3." in name for name in changed)
    assert not any(f"resblocks.{layer}." in name for name in changed for layer in (0, 1, 2))
    assert "visual.conv1.weight" not in changed
    assert "token_embedding.weight" not in changed


def test_a_trained_head_is_kept_when_no_epoch_does_better(
    shapes_root: Path, shapes_cache: Path, tmp_path: Path
) -> None:
    own = TrainHeadConfig(
        head="seqLSTM", cache=shapes_cache, out=tmp_path / "head", epochs=12, batch=16
    )
    head = train_head(own)
    ruinous = {"head": "seqLSTM", "init_head": head.checkpoint, "lr": 0.5, "clip_norm": 100.0}
    result = train_e2e(config(shapes_root, tmp_path, **ruinous))
    rows = [row for row in read_journal(tmp_path / "run" / "log.jsonl") if "epoch" in row]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert score(rows[0]) > score(rows[1])
    assert score(result.metrics) == score(rows[0])
    assert not moved(result.checkpoint)
    assert len(moved(result.last)) > 50
    kept, begun = (load_checkpoint(one.checkpoint).head.state_dict() for one in (result, head))
    assert all(torch.equal(kept[name], begun[name]) for name in begun)


@pytest.mark.parametrize("head", list(HEADS))
def test_micro_batches_and_checkpointed_layers_give_the_gradients_of_the_whole_batch(
    head: str, shapes_root: Path, tmp_path: Path
) -> None:
    settings = config(shapes_root, tmp_path, head=head, batch=12, eval_split="none")
    backbone = load_backbone("tiny", precision="float32")
    dataset = load_dataset(DatasetSource("shapes", shapes_root), "train")
    store = split_frames(settings, dataset, backbone)
    torch.manual_seed(0)
    built = start_head(settings, backbone.embed_dim, backbone.head_init())
    task = E2ETask(settings, backbone, built, (dataset, store))
    task.train_mode(False)  # dropout off: other blocks would draw other masks
    inputs = task.load(np.arange(12), torch.Generator().manual_seed(0))
    runs_of_a_layer: list[None] = []
    for tower in (backbone.model.visual, backbone.model):
        tower.transformer.resblocks[1].register_forward_pre_hook(
            lambda *_: runs_of_a_layer.append(None)
        )
    gradients, counts = [], []
    for micro, checkpointing in ((0, False), (5, False), (5, True)):
        if checkpointing:
            checkpoint_layers(backbone)
        runs_of_a_layer.clear()
        for module in (backbone.model, task.head):
            module.zero_grad(set_to_none=True)
        loss = accumulate_gradients(task, inputs, micro, World())
        held = [p.grad for m in (backbone.model, task.head) for p in m.parameters()]
        flat = torch.cat([grad.flatten() for grad in held if grad is not None])
        gradients.append((float(loss), flat))
        counts.append(len(runs_of_a_layer))
    (one, whole), *others = gradients
    for two, parts in others:
        assert one == pytest.approx(two, rel=1e-5)
        assert float((whole - parts).norm() / whole.norm()) < 1e-5
    # Two towers; three chunks, without a graph and with one; and once more on the way back.
    assert counts == [2, 12, 18]


def test_killed_at_random_and_resumed_it_ends_with_the_same_losses(
    shapes_root: Path, tmp_path: Path
) -> None:
    command = [*warm.C4C, "train-e2e", "--head", "seqTransf", "--layers", "1"]
    command += ["--dataset", "shapes", "--root", str(shapes_root), "--backbone", "tiny"]
    command += ["--epochs", "5", "--batch", "16", "--coef-lr", "1", "--workers", "1"]
    command += ["--frame-cache", str(tmp_path / "frames"), "--checkpoint-minutes", "0.0001"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    warm.run([*command, "--out", str(whole)], check=True)
    chance = random.Random(3)
    for kills in (4, 11):
        resumed = [*command, "--out", str(cut), "--resume", "auto"]
        process = warm.Started(resumed)
        begun = time.monotonic()
        while len(read_journal(cut / "log.jsonl")) < kills and process.poll() is None:
            assert time.monotonic() - begun < 60
            time.sleep(0.01)
        time.sleep(chance.random() / 5)
        process.kill()
        process.communicate()
        assert process.returncode == -9  # it was in the middle of the run
    warm.run(resumed, check=True)
    logs = [
        [(row["step"], row.get("epoch"), row["loss"]) for row in read_journal(run / "log.jsonl")]
        for run in (whole, cut)
    ]
    assert [row[:2] for row in logs[0]] == [row[:2] for row in logs[1]]
    # Sums on several threads may round otherwise in another process.
    assert [row[2] for row in logs[0]] == pytest.approx([row[2] for row in logs[1]], rel=1e-3)


def test_the_frames_of_a_replaced_video_are_decoded_anew(shapes_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    shutil.copytree(shapes_root, root)
    settings, backbone = config(root, tmp_path), load_backbone("tiny")
    dataset = load_dataset(DatasetSource("shapes", root), "val")

    def first_clip() -> np.ndarray:
        store = split_frames(settings, dataset, backbone)
        return np.array(next(iter(store.stream([0]))))

    before = first_clip()
    assert np.array_equal(first_clip(), before)
    one, other = (Path(dataset.clips[place].path) for place in (0, 4))
    shutil.copy(other, one)
    assert not np.array_equal(first_clip(), before)


def test_a_stopped_or_killed_decoding_goes_on_to_the_same_frames(
    shapes_root: Path, tmp_path: Path
) -> None:
    command = [*warm.C4C, "train-e2e", "--head", "meanP", "--epochs", "1"]
    command += ["--dataset", "shapes", "--root", str(shapes_root), "--backbone", "tiny"]
    command += ["--batch", "16", "--workers", "1", "--fps", "4", "--max-frames", "12"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    end = ["--frame-cache", str(whole), "--out", str(tmp_path / "run1")]
    warm.run([*command, *end], check=True)
    resumed = [*command, "--frame-cache", str(cut), "--out", str(tmp_path / "run2")]
    counted = []
    for number, goal in ((signal.SIGTERM, 1 << 19), (signal.SIGKILL, 3 << 19)):
        process = warm.Started(resumed)
        begun = time.monotonic()
        while sum(path.stat().st_size for path in cut.glob(".train-*/frames.bin")) < goal:
            assert time.monotonic() - begun < 60
            time.sleep(0.005)
        os.kill(process.pid, number)
        words = process.communicate(timeout=60)[1]
        if number == signal.SIGTERM:
            assert process.returncode == 75
            assert "the same command goes on" in words
        counted += [path.stat().st_size // 8 for path in cut.glob(".train-*/lengths.bin")]
    assert counted[0] > 0
    assert counted[1] >= counted[0]
    left = next(cut.glob(".train-*/frames.bin"))
    with left.open("ab") as stream:
        stream.write(b"frames of a clip that was not whole")
    warm.run(resumed, check=True)
    for path in whole.glob("*/frames.bin"):
        assert path.read_bytes() == (cut / path.relative_to(whole)).read_bytes()
    assert not list(cut.glob(".*"))


def test_frames_decoded_anew_are_those_of_the_cache(
    shapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a clip that cannot be decoded is left out, in either way."""
    root = tmp_path / "shapes"
    shutil.copytree(shapes_root, root)
    dataset = load_dataset(DatasetSource("shapes", root), "train")
    Path(dataset.clips[3].path).write_bytes(b"no video")
    shared = {"head": "seqTransf", "layers": 1, "epochs": 2, "order": "random"}
    train_e2e(config(root, tmp_path, frames="decode", **shared))
    assert capsys.readouterr().err.count(f"{dataset.clips[3].id}: failed") == 1
    assert not list((tmp_path / "frames").glob("train-*"))
    anew = read_journal(tmp_path / "run" / "log.jsonl")
    same = {"train_split": "val", "eval_split": "val", "frames": "decode", "epochs": 1}
    assert train_e2e(config(root, tmp_path, out=tmp_path / "same", **same)).metrics
    assert all(np.isfinite(row["loss"]) for row in anew)
    whole = [config(shapes_root, tmp_path, out=tmp_path / way, frames=way, **shared)
             for way in ("cache", "decode")]  # fmt: skip
    losses = []
    for settings in whole:
        train_e2e(settings)
        losses.append([row["loss"] for row in read_journal(settings.out / "log.jsonl")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
