"""The frame cache: the frames that were asked for, and a cache of its own for other wishes."""

import os
from pathlib import Path

import numpy as np
import pytest

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.datasets import load_dataset
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request
from c4c.training.frames import DecodedFrames, FrameStore, open_frames

WISHES = [
    Request(1.0, 12, "uniform", size=64),
    Request(4.0, 12, "uniform", size=64),
    Request(4.0, 3, "uniform", size=64),
    Request(4.0, 3, "head", size=64),
]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("tiny", precision="float32")


@pytest.fixture(scope="module")
def dataset(shapes_root: Path) -> Dataset:
    return load_dataset(DatasetSource("shapes", shapes_root), "val")


def clips_of(store: FrameStore | DecodedFrames) -> list[np.ndarray]:
    return [np.array(frames) for frames in store.stream(range(len(store.ids)))]


def test_every_wish_has_its_own_frames_as_they_are_decoded(
    backbone: Backbone, dataset: Dataset, tmp_path: Path
) -> None:
    seen = []
    for request in WISHES:
        store = open_frames(tmp_path, dataset, backbone, request, 1)
        assert store.ids == tuple(clip.id for clip in dataset.clips)
        found = clips_of(store)
        done = dict(decode_many(dataset.clips, request, 1))
        for place, frames in enumerate(found):
            assert len(frames) == store.lengths[place]
            expected = done[place].frames.pixels  # square already, and of the backbone's size
            assert np.array_equal(frames.transpose(0, 2, 3, 1), expected)
        seen.append(found[0].tobytes())
    assert len(set(seen)) == len(WISHES)
    assert len(list(tmp_path.iterdir())) == len(WISHES)
    anew = clips_of(DecodedFrames(dataset, backbone, request, 1))
    assert all(map(np.array_equal, anew, found))


def test_what_is_cached_is_not_decoded_again(
    backbone: Backbone, dataset: Dataset, tmp_path: Path
) -> None:
    first = clips_of(open_frames(tmp_path, dataset, backbone, WISHES[0], 1))
    (folder,) = tmp_path.iterdir()
    before = (folder / "frames.bin").stat().st_mtime_ns
    again = clips_of(open_frames(tmp_path, dataset, backbone, WISHES[0], 1))
    assert all(map(np.array_equal, first, again))
    assert (folder / "frames.bin").stat().st_mtime_ns == before
    assert folder.name.startswith("val-")


def test_a_cache_that_is_too_short_is_refused(
    backbone: Backbone, dataset: Dataset, tmp_path: Path
) -> None:
    open_frames(tmp_path, dataset, backbone, WISHES[0], 1)
    (folder,) = tmp_path.iterdir()
    os.truncate(folder / "frames.bin", (folder / "frames.bin").stat().st_size - 1)
    with pytest.raises(C4CError, match=folder.name):
        open_frames(tmp_path, dataset, backbone, WISHES[0], 1)
