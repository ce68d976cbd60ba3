"""MIL-NCE, its groups, one caption an epoch, 3d patches, and a val split that leaks."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c4c.cache.open import Cache
from c4c.cache.seen import ClipSet
from c4c.core.errors import C4CError
from c4c.core.records import Clip, Overlap
from c4c.extract.backbone.load import load_backbone
from c4c.extract.config import ExtractConfig
from c4c.extract.pipeline import run_extract
from c4c.heads.checkpoint import load_checkpoint
from c4c.retrieval.session import RetrieveConfig, run_evaluate
from c4c.training.batches import epoch_batches, group_batches
from c4c.training.cached import CachedTask, start_head, train_head
from c4c.training.config import TrainE2EConfig, TrainHeadConfig
from c4c.training.e2e import train_e2e
from c4c.training.gradients import accumulate_gradients
from c4c.training.journal import read_journal
from c4c.training.losses import mil_nce
from c4c.training.parallel import World
from c4c.training.splits import evaluated_split


def plain_mil_nce(scores: torch.Tensor, pairs: int) -> float:
    """The definition with loops: of a group's middle, right texts against all that competes."""
    total, count = 0.0, len(scores)
    for middle in range(pairs // 2, count, pairs):
        own = range(middle - pairs // 2, middle - pairs // 2 + pairs)
        right = sum(math.exp(scores[text, middle]) for text in own)
        wrong = sum(math.exp(scores[text, middle]) for text in range(count) if text not in own)
        wrong += sum(math.exp(scores[middle, clip]) for clip in range(count) if clip not in own)
        total -= math.log(right / (right + wrong))
    return total / (count // pairs)


@pytest.mark.parametrize(("count", "pairs"), [(1, 1), (5, 1), (6, 2), (12, 3), (4, 4)])
def test_mil_nce_is_its_definition(count: int, pairs: int) -> None:
    scores = torch.randn(count, count, generator=torch.Generator().manual_seed(3)).double()
    assert float(mil_nce(scores, pairs)) == pytest.approx(plain_mil_nce(scores, pairs), rel=1e-12)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: mil_nce(given, pairs), scores)


def test_groups_are_successive_stretches_and_no_video_stands_twice_in_a_batch() -> None:
    lengths = {"a": 7, "b": 3, "c": 1, "d": 4, "e": 2}
    stretches = [(name, float(at)) for name, n in lengths.items() for at in range(n)]
    order = np.random.default_rng(0).permutation(len(stretches))
    mixed = [stretches[row] for row in order]
    batches = group_batches(mixed, 6, 3, seed=0, epoch=0)
    seen = set()
    for batch in batches:
        groups = [[mixed[row] for row in group] for group in batch.reshape(-1, 3)]
        videos = [group[0][0] for group in groups]
        assert len(set(videos)) == len(videos) == 2
        for group in groups:
            assert len({video for video, _ in group}) == 1
            gaps = [round(b - a) % lengths[group[0][0]] for (_, a), (_, b) in pairwise(group)]
            assert gaps in ([1, 1], [0, 0])
            seen.update(group)
    again = group_batches(mixed, 6, 3, seed=0, epoch=0)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    epochs = (group_batches(mixed, 6, 3, 0, epoch) for epoch in range(8))
    assert {mixed[row] for found in epochs for batch in found for row in batch} == set(mixed)


def test_one_caption_a_clip_is_drawn_anew_every_epoch() -> None:
    clip_of = [f"clip{row % 10}" for row in range(50)]
    texts = [f"text {row}" for row in range(50)]
    epochs = [np.concatenate(epoch_batches(clip_of, texts, 5, 0, e, True)) for e in range(12)]
    for rows in epochs:
        assert sorted(clip_of[row] for row in rows) == sorted(set(clip_of))
    assert len({tuple(sorted(rows)) for rows in epochs}) > 1
    assert len(set(np.concatenate(epochs).tolist())) > 40


def config(cache: Path, out: Path, **changes: object) -> TrainHeadConfig:
    settings = {"head": "seqTransf", "epochs": 2, "batch": 12, "layers": 1, **changes}
    return TrainHeadConfig(cache=cache, out=out, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["seqTransf", "tightTransf"])
def test_micro_batches_give_mil_nce_the_same_gradients(
    head: str, shapes_cache: Path, tmp_path: Path
) -> None:
    settings = config(shapes_cache, tmp_path, head=head, objective="mil-nce", pairs=2)
    cache = Cache.open(shapes_cache)
    task = CachedTask(settings, cache, start_head(settings, cache.dim, cache.head_init()))
    task.train_mode(False)
    batch = task.batches(0)[0]
    found = []
    for micro in (0, 4):
        task.head.zero_grad(set_to_none=True)
        inputs = task.load(batch, torch.Generator().manual_seed(0))
        accumulate_gradients(task, inputs, micro, World())
        held = [p.grad for p in task.head.parameters() if p.grad is not None]
        found.append(torch.cat([grad.flatten() for grad in held]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 1e-5


@pytest.mark.parametrize("objective", [{"objective": "mil-nce", "pairs": 3}, {"pairs": 1}])
def test_both_objectives_learn(
    objective: dict[str, object], shapes_cache: Path, tmp_path: Path
) -> None:
    train_head(config(shapes_cache, tmp_path / "run", epochs=4, **objective))
    log = [row for row in read_journal(tmp_path / "run" / "log.jsonl") if "epoch" in row]
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]


def test_drawn_captions_make_an_epoch_of_one_a_clip(feature_task: Callable[..., Any]) -> None:
    every, drawn = (feature_task(clip_captions=how) for how in ("all", "one"))
    for task in (every, drawn):
        task.clip_of = [f"clip{row // 2}" for row in range(24)]
    assert len(every.batches(0)) > 2
    shown = [drawn.clip_of[row] for batch in drawn.batches(1) for row in batch]
    assert len(shown) == len(set(shown)) == 12


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pairs": 3}, "--objective mil-nce"),
        ({"objective": "mil-nce", "pairs": 5}, "no multiple"),
        ({"objective": "hinge"}, "contrastive, mil-nce"),
        ({"objective": "mil-nce", "clip_captions": "one"}, "leave it out"),
    ],
)
def test_settings_that_contradict_each_other_are_one_line(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(C4CError, match=words):
        config(tmp_path, tmp_path, **changes)


def test_a_val_split_with_training_clips_chooses_nothing(
    shapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two divisions of one collection, as MSR-VTT has them: val is a part of train.
    lines = ["video,caption,split"]
    videos = sorted((shapes_root / "videos").rglob("*.mp4"))[:6]
    for number, video in enumerate(videos):
        splits = ("train", "val") if number < 2 else ("train",)
        lines += [f"{video},a thing number {number},{split}" for split in splits]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    run_extract(
        ExtractConfig(
            dataset="manifest",
            root=tmp_path,
            videos=shapes_root,
            captions=tmp_path / "list.csv",
            cache=tmp_path / "c",
            splits=("train", "val"),
            backbone="tiny",
            workers=1,
        )
    )
    result = train_head(config(tmp_path / "c", tmp_path / "run", head="seqLSTM", batch=4))
    assert load_checkpoint(result.checkpoint).meta["chosen_on"] is None
    assert "2 clips of 'val' are in 'train' too" in capsys.readouterr().err
    whole = train_e2e(
        TrainE2EConfig(
            head="meanP",
            dataset="manifest",
            root=tmp_path,
            videos=shapes_root,
            captions=tmp_path / "list.csv",
            backbone="tiny",
            frame_cache=tmp_path / "frames",
            out=tmp_path / "e2e",
            epochs=1,
            batch=4,
            workers=1,
        )
    )
    assert load_checkpoint(whole.checkpoint).meta["chosen_on"] is None
    assert "2 clips of 'val' are in 'train' too" in capsys.readouterr().err


def test_a_file_listed_twice_leaks_under_another_name_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = {
        "train": [Clip("a", "/v/1.mp4"), Clip("b", "/v/2.mp4", 0.0, 4.0)],
        "val": [Clip("c", "/v/1.mp4"), Clip("d", "/v/2.mp4", 4.0, 8.0)],
    }
    there = ("train", "val")

    def trained(split: str) -> Overlap:
        return ClipSet.of(held["train"]).shared(held[split])

    assert evaluated_split("auto", there, "train", trained) is None
    assert "1 clips of 'val' are in 'train' too" in capsys.readouterr().err
    assert evaluated_split("val", there, "train", trained) == "val"
    assert "leak: 1 clips of 'val' are trained on" in capsys.readouterr().err
    held["val"].pop(0)
    assert evaluated_split("auto", there, "train", trained) == "val"


def test_a_3d_patch_is_trained_kept_and_goes_on(shapes_root: Path, tmp_path: Path) -> None:
    settings = TrainE2EConfig(
        dataset="shapes",
        root=shapes_root,
        head="meanP",
        backbone="tiny",
        frame_cache=tmp_path / "frames",
        out=tmp_path / "run",
        workers=1,
        epochs=1,
        batch=16,
        coef_lr=1.0,
        linear_patch="3d",
    )
    result = train_e2e(settings)
    kernel = load_backbone("tiny", str(result.checkpoint)).model.visual.conv2.weight
    assert kernel.shape[2] == 3
    # The outer frames' kernels start at zero: training has moved them.
    assert float(kernel[:, :, 0].detach().abs().max()) > 0
    assert 0 <= result.metrics["t2v_r1"] <= 100
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
    asked = RetrieveConfig(cache=cache, checkpoint=result.checkpoint, split="val", device="cpu")
    found = run_evaluate(asked).metrics["t2v"]
    assert found.mean_rank == pytest.approx(result.metrics["t2v_mean_rank"], abs=0.2)
