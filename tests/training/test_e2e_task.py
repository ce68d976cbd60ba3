"""The task of end-to-end training in memory: which frames and words, in which order, for what."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Dataset, FeatureBatch
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.heads import build_head
from c4c.retrieval.metrics import retrieval_metrics
from c4c.training import e2e as module
from c4c.training.config import TrainE2EConfig
from c4c.training.e2e import E2ETask
from c4c.training.frames import FrameStore
from c4c.training.layers import freeze

LENGTHS = [3, 1, 0, 2, 4, 2]
WORDS = [
    "a red ball moves to the left and then back to the right",
    "a blue square grows", "nothing to be seen", "a star turns and then shrinks again slowly",
    "two circles meet in the middle of the picture", "a green ring",
]  # fmt: skip


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("tiny", precision="float32")


def made(seed: int, size: int) -> tuple[Dataset, FrameStore]:
    """Clips of random frames, one without any, and two captions a clip."""
    ids = tuple(f"clip{place}" for place in range(len(LENGTHS)))
    captions = tuple(
        Caption(f"{n}{name}", name, f"{words} {'again' * n}")
        for n in (0, 1)
        for name, words in zip(ids, WORDS, strict=True)
    )
    clips = tuple(Clip(name, f"/v/{name}.mp4", float(n)) for n, name in enumerate(ids))
    drawn = np.random.default_rng(seed)
    # Coarse pictures: the backbone tells them apart better than noise.
    coarse = drawn.integers(0, 256, (sum(LENGTHS), 3, 4, 4), dtype=np.uint8)
    pixels = coarse.repeat(size // 4, 2).repeat(size // 4, 3)
    twins = {"clip0": "clip1", "clip1": "clip0"}
    store = FrameStore(pixels, np.cumsum([0, *LENGTHS]), ids)
    return Dataset("folder", "train", clips, captions, (), twins), store


@pytest.fixture
def make_task(backbone: Backbone) -> Callable[..., E2ETask]:
    """Gives a function that makes a task of these settings on random frames."""

    def task(**changes: Any) -> E2ETask:
        given = {"head": "seqTransf", "dataset": "folder", "layers": 1, "batch": 4, **changes}
        torch.manual_seed(0)
        head = build_head(given["head"], backbone.embed_dim, layers=1)
        size = backbone.image_size
        return E2ETask(TrainE2EConfig(**given), backbone, head, made(0, size), made(1, size))

    return task


def frames_of(seed: int, size: int, clip: int, order: str = "ordinary") -> np.ndarray:
    _, store = made(seed, size)
    (found,) = store.stream([clip])
    return found[::-1] if order == "reverse" else found


@pytest.mark.parametrize("order", ["ordinary", "reverse"])
def test_a_batch_is_the_frames_of_its_clips_in_the_order_of_training(
    order: str, make_task: Callable[..., E2ETask], backbone: Backbone
) -> None:
    task = make_task(order=order)
    assert len(task.texts) == 10  # the captions of the clip without frames are left out
    rows = np.array([7, 0, 3])
    inputs = task.load(rows, torch.Generator())
    clips = [int(task.clip_of[row].removeprefix("clip")) for row in rows]
    assert inputs.lengths.tolist() == [LENGTHS[clip] for clip in clips]
    expected = [frames_of(0, backbone.image_size, clip, order) for clip in clips]
    assert np.array_equal(inputs.pixels.numpy(), np.concatenate(expected))
    texts = [task.texts[row] for row in rows]
    assert torch.equal(inputs.tokens, backbone.tokenize(texts))
    assert [task.stretches[row] for row in rows] == [
        (f"/v/clip{clip}.mp4", float(clip)) for clip in clips
    ]


def test_words_are_cut_where_the_settings_say(
    make_task: Callable[..., E2ETask], backbone: Backbone
) -> None:
    task = make_task(max_words=5)
    tokens = task.load(np.arange(10), torch.Generator()).tokens
    assert torch.equal(tokens, backbone.tokenize(task.texts, 5))
    assert int((tokens != 0).sum(1).max()) == 5


@torch.inference_mode()
def test_any_part_of_a_batch_is_encoded_as_the_whole(
    make_task: Callable[..., E2ETask], backbone: Backbone
) -> None:
    task = make_task()
    task.train_mode(False)
    inputs = task.load(np.array([3, 0, 1, 7]), torch.Generator())
    frames, texts = task.encode(inputs, 0, 4)
    images = backbone.preprocess(inputs.pixels.permute(0, 2, 3, 1))
    packed = torch.split(backbone.encode_frames(images), inputs.lengths.tolist())
    for row, own in enumerate(packed):
        torch.testing.assert_close(frames[row, : len(own)], own, rtol=1e-4, atol=1e-5)
        assert (frames[row, len(own) :] == 0).all()
    torch.testing.assert_close(texts, backbone.encode_text(inputs.tokens), rtol=1e-4, atol=1e-5)
    for start, stop in ((0, 1), (1, 3), (3, 4)):
        part, words = task.encode(inputs, start, stop)
        torch.testing.assert_close(part, frames[start:stop], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(words, texts[start:stop], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["seqLSTM", "tightTransf"])
@pytest.mark.parametrize("changes", [{"order": "reverse"}, {"eval_order": "reverse"}], ids=str)
@torch.inference_mode()
def test_figures_are_those_of_the_frames_in_the_order_of_evaluation(
    head: str,
    changes: dict[str, Any],
    make_task: Callable[..., E2ETask],
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task(head=head, max_words=6, **changes)
    dataset, _ = made(1, backbone.image_size)
    kept = [place for place, length in enumerate(LENGTHS) if length]
    order = changes.get("eval_order", "ordinary")
    task.train_mode(False)
    frames = torch.zeros(len(kept), max(LENGTHS), backbone.embed_dim)
    for row, clip in enumerate(kept):
        pixels = torch.from_numpy(frames_of(1, backbone.image_size, clip, order).copy())
        images = backbone.preprocess(pixels.permute(0, 2, 3, 1))
        frames[row, : LENGTHS[clip]] = backbone.encode_frames(images)
    captions = [one for one in dataset.captions if one.clip_id != "clip2"]
    text = backbone.encode_text(backbone.tokenize([one.text for one in captions], 6))
    own = np.array([kept.index(int(one.clip_id.removeprefix("clip"))) for one in captions])
    batch = FeatureBatch(frames, torch.tensor([LENGTHS[clip] for clip in kept]))
    scores = task.head(batch, text).numpy()
    expected = retrieval_metrics(scores, own)
    task.train_mode(True)
    found = [task.evaluate()]
    monkeypatch.setattr(module, "_EVAL_CLIPS", 2)
    monkeypatch.setattr(module, "_EVAL_TEXTS", 3)
    found.append(task.evaluate())
    twins = [row for row in range(len(own)) if own[row] < 2]
    wins = [scores[row, own[row]] > scores[row, 1 - own[row]] for row in twins]
    for one in found:
        for way in ("t2v", "v2t"):
            assert one[f"{way}_mean_rank"] == pytest.approx(expected[way].mean_rank)
        assert one["twin_accuracy"] == pytest.approx(100 * np.mean(wins))
    assert not backbone.model.training


def test_what_is_read_ahead_is_what_the_batches_get(
    make_task: Callable[..., E2ETask],
) -> None:
    task = make_task()
    batches = [np.array([7, 0]), np.array([3, 1, 2])]
    alone = [task.load(batch, torch.Generator()).pixels for batch in batches]
    task.expect(batches)
    ahead = [task.load(batch, torch.Generator()).pixels for batch in batches]
    assert all(torch.equal(one, two) for one, two in zip(alone, ahead, strict=True))


def test_no_frames_at_all_is_an_error(backbone: Backbone) -> None:
    dataset, store = made(0, backbone.image_size)
    void = FrameStore(store.pixels, np.zeros(7, np.int64), store.ids)
    config = TrainE2EConfig(head="meanP", dataset="folder")
    with pytest.raises(C4CError, match="no captioned clip with frames"):
        E2ETask(config, backbone, build_head("meanP", backbone.embed_dim), (dataset, void))


@pytest.mark.parametrize(("layers", "frozen"), [(-1, 0), (0, 0), (1, 1), (3, 3)])
def test_frozen_are_the_lowest_layers_of_both_towers_and_what_lies_below(
    layers: int, frozen: int
) -> None:
    model = load_backbone("tiny").model
    freeze(model, layers)
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    for number, prefix in ((0, ""), (0, "visual."), (1, ""), (2, "visual."), (3, "")):
        name = f"{prefix}transformer.resblocks.{number}.ln_1.weight"
        assert (name in learning) == (number >= frozen), name
    for name in (
        *("visual.conv1.weight", "visual.class_embedding", "visual.positional_embedding"),
        *("visual.ln_pre.weight", "token_embedding.weight", "positional_embedding"),
    ):
        assert (name in learning) == (layers < 1), name
    for name in ("visual.ln_post.weight", "visual.proj", "ln_final.weight", "text_projection"):
        assert name in learning
