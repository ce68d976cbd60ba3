"""Training on a cache: which frames, pairs and figures, against what was put into it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Dataset, FeatureBatch
from c4c.heads import HEADS, build_head
from c4c.heads.checkpoint import load_checkpoint
from c4c.retrieval.metrics import retrieval_metrics
from c4c.training import cached as module
from c4c.training.cached import CachedTask, train_head
from c4c.training.config import TrainHeadConfig
from c4c.training.evaluation import answers, figures, score

DIM, FRAMES = 16, 6


def split(name: str, count: int, seed: int, failed: tuple[int, ...] = ()) -> tuple[Any, ...]:
    """A dataset with two captions a clip and twins, and its features."""
    drawn = np.random.default_rng(seed)
    ids = [f"{name}{place:02}" for place in range(count)]
    captions = tuple(Caption(f"{one}#{n}", one, f"{one} {n}") for n in (0, 1) for one in ids)
    clips = tuple(Clip(one, f"/v/{one}.mp4", 0.0, 9.0) for one in ids)
    twins = {one: ids[place ^ 1] for place, one in enumerate(ids)}
    frames = {
        one: drawn.standard_normal((0 if place in failed else 1 + place % FRAMES, DIM))
        for place, one in enumerate(ids)
    }
    words = {one.id: drawn.standard_normal(DIM) for one in captions}
    return Dataset("folder", name, clips, captions, (), twins), frames, words


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, write_cache: Callable[..., Path]) -> Path:
    """Random features: 12 clips to train on, of which number 4 has failed, and 8 of val."""
    path = tmp_path_factory.mktemp("random") / "cache"
    write_cache(path, *split("train", 12, 0, (4,)))
    return write_cache(path, *split("val", 8, 1))


def config(cache: Path, **changes: Any) -> TrainHeadConfig:
    settings = {"head": "seqTransf", "epochs": 2, "batch": 4, "layers": 1, **changes}
    return TrainHeadConfig(cache=cache, **settings)


def task_of(cache: Path, **changes: Any) -> CachedTask:
    settings = config(cache, **changes)
    torch.manual_seed(0)
    head = build_head(settings.head, DIM, layers=1, max_frames=FRAMES)
    return CachedTask(settings, Cache.open(cache), head)


def test_captions_whose_clip_failed_are_left_out_and_the_others_are_paired(cache: Path) -> None:
    task = task_of(cache)
    clips, captions = Cache.open(cache).clips("train"), Cache.open(cache).captions("train")
    assert "train04" not in task.clip_of
    assert len(task.clip_of) == 22
    inputs = task.load(np.arange(22), torch.Generator())
    for row, (name, text) in enumerate(zip(task.clip_of, task.texts, strict=True)):
        assert text.split()[0] == name
        place = clips.ids.index(name)
        frames = clips.read(place)[0].astype(np.float32)
        assert inputs.lengths[row] == len(frames)
        assert np.array_equal(inputs.clips.features[row, : len(frames)], frames)
        own = [one.text for one in captions.captions].index(text)
        assert np.array_equal(inputs.texts[row], captions.features[own].astype(np.float32))
    assert task.stretches[0] == ("/v/train00.mp4", 0.0)
    for epoch in range(3):
        for batch in task.batches(epoch):
            assert len({task.clip_of[row] for row in batch}) == 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"max_frames": 3, "sampling": "head"}, [0, 1, 2]),
        ({"max_frames": 3, "sampling": "tail"}, [3, 4, 5]),
        ({"max_frames": 3, "sampling": "uniform"}, [0, 2, 5]),
        ({"max_frames": 2, "sampling": "tail", "order": "reverse"}, [5, 4]),
        ({"eval_order": "reverse"}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_training_sees_the_frames_that_its_settings_name(
    changes: dict[str, Any], expected: list[int], cache: Path
) -> None:
    task = task_of(cache, **changes)
    row = task.clip_of.index("train05")
    whole = Cache.open(cache).clips("train").read(4)[0]  # the fifth that did not fail
    inputs = task.load(np.array([row]), torch.Generator())
    assert np.array_equal(inputs.clips.features[0], whole[expected].astype(np.float32))


def test_a_random_order_is_drawn_by_the_batchs_generator(cache: Path) -> None:
    task = task_of(cache, order="random")
    rows = np.arange(6)
    drawn = [
        task.load(rows, torch.Generator().manual_seed(seed)).clips.features for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[0].sum(1), drawn[2].sum(1)) or torch.allclose(
        drawn[0].sum(1), drawn[2].sum(1), atol=1e-5
    )


def seen_by(task: CachedTask, monkeypatch: pytest.MonkeyPatch) -> list[FeatureBatch]:
    """What the head is given while it is evaluated."""
    seen: list[FeatureBatch] = []
    encode = task.head.encode_clips

    def noting(batch: FeatureBatch) -> torch.Tensor:
        seen.append(batch)
        return encode(batch)

    monkeypatch.setattr(task.head, "encode_clips", noting)
    task.evaluate()
    return seen


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"order": "reverse"}, [0, 1, 2, 3, 4, 5]),
        ({"eval_order": "reverse"}, [5, 4, 3, 2, 1, 0]),
        ({"order": "reverse", "max_frames": 3, "sampling": "tail"}, [3, 4, 5]),
        ({"eval_order": "reverse", "max_frames": 2, "sampling": "head"}, [1, 0]),
    ],
)
def test_evaluation_has_an_order_of_its_own(
    changes: dict[str, Any],
    expected: list[int],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (batch,) = seen_by(task_of(cache, **changes), monkeypatch)
    whole = Cache.open(cache).clips("val").read(5)[0]
    assert np.array_equal(batch.features[5, : len(expected)], whole[expected].astype(np.float32))


@pytest.mark.parametrize("name", list(HEADS))
def test_figures_of_an_epoch_are_those_of_the_split(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the blocks, without dropout, and with the twins told apart."""
    task = task_of(cache, head=name)
    task.train_mode(True)
    found = [task.evaluate()]
    assert not task.head.training
    monkeypatch.setattr(module, "BLOCK", 3)
    found.append(task.evaluate())
    clips, captions = Cache.open(cache).clips("val"), Cache.open(cache).captions("val")
    own = np.array([clips.ids.index(one) for one in captions.clip_ids])
    with torch.inference_mode():
        scores = task.head(clips.batch(range(8)), captions.batch(range(16))).numpy()
    expected = retrieval_metrics(scores, own)
    wins = scores[np.arange(16), own] > scores[np.arange(16), own ^ 1]
    for one in found:
        for way in ("t2v", "v2t"):
            for figure in ("r1", "r5", "r10", "median_rank", "mean_rank"):
                assert one[f"{way}_{figure}"] == pytest.approx(getattr(expected[way], figure))
        assert one["twin_accuracy"] == pytest.approx(100 * wins.mean())
        assert score(one) == one["t2v_r1"] + one["v2t_r1"]


def test_captions_of_clips_that_are_not_there_are_not_counted() -> None:
    right = answers(["a", "b"], ["b", "gone", "a"], {"a": "b"})
    assert right.owners.tolist() == [1, -1, 0]
    assert right.twins.tolist() == [1, -1]
    head = build_head("meanP", 2).eval()
    batch = FeatureBatch(torch.eye(2)[:, None], torch.ones(2, dtype=torch.int64))
    text = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.6, 0.8]])
    found = figures(head, [batch], text, right)
    assert found["t2v_r1"] == 50
    assert found["t2v_mean_rank"] == 1.5
    assert found["twin_accuracy"] == 0  # only the last caption's clip has a twin


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, "val"), ({"eval_split": "none"}, None), ({"eval_split": "train"}, "train"),
     ({"train_split": "val"}, None)],
)  # fmt: skip
def test_the_split_that_chooses_is_the_one_asked_for(
    changes: dict[str, Any], expected: str | None, cache: Path, tmp_path: Path
) -> None:
    result = train_head(config(cache, out=tmp_path / "run", epochs=1, **changes))
    assert load_checkpoint(result.checkpoint).meta["chosen_on"] == expected
    assert bool(result.metrics) == (expected is not None)


def test_a_cache_without_val_keeps_the_last_one(
    tmp_path: Path, write_cache: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_cache(tmp_path / "cache", *split("train", 12, 0))
    result = train_head(config(path, out=tmp_path / "run"))
    assert "no val split" in capsys.readouterr().err
    assert result.metrics == {}
    one, two = (load_checkpoint(run).head.state_dict() for run in (result.checkpoint, result.last))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_head_that_another_run_trained_is_gone_on_from(cache: Path, tmp_path: Path) -> None:
    first = train_head(config(cache, out=tmp_path / "first"))
    start = {"init_head": first.last, "lr": 1e-9, "epochs": 1}
    more = train_head(config(cache, out=tmp_path / "more", **start))
    mine, theirs = (load_checkpoint(one.last).head.state_dict() for one in (more, first))
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)
    with pytest.raises(C4CError, match="is a seqTransf of 16 channels, expected seqLSTM of 16"):
        train_head(config(cache, out=tmp_path / "other", head="seqLSTM", **start))


def test_seeds_and_layers_are_those_asked_for(cache: Path, tmp_path: Path) -> None:
    runs = [
        train_head(config(cache, out=tmp_path / str(n), seed=seed, layers=layers, max_frames=90))
        for n, (seed, layers) in enumerate(((0, 1), (1, 1), (0, 2)))
    ]
    heads = [load_checkpoint(run.last).head for run in runs]
    assert [head.layers for head in heads] == [1, 1, 2]
    assert {head.max_frames for head in heads} == {90}
    tables = [head.state_dict()["position_embeddings"] for head in heads]
    assert not torch.allclose(tables[0], tables[1], atol=1e-2)
    held = load_checkpoint(runs[1].last).meta
    assert held["config"]["seed"] == 1
    assert held["fingerprint"]["sha256"] == "s"
