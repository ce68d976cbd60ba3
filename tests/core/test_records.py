"""Records refuse what cannot be right, where it is made."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Dataset, FeatureBatch, Fingerprint, Frames


@pytest.mark.parametrize(
    ("start", "end"), [(-1.0, None), (math.nan, 1.0), (2.0, 1.0), (0.0, math.inf), (1.0, 1.0)]
)
def test_a_clip_with_an_impossible_span_is_refused(start: float, end: float | None) -> None:
    with pytest.raises(C4CError, match="clip-7"):
        Clip("clip-7", "a.mp4", start, end)


def test_an_empty_caption_is_refused_with_its_clip() -> None:
    with pytest.raises(C4CError, match="clip-7"):
        Caption("c1", "clip-7", "  ")


def test_a_dataset_refuses_duplicates_and_strangers() -> None:
    clip = Clip("a", "a.mp4")
    with pytest.raises(C4CError, match="twice"):
        Dataset("d", "test", (clip, clip))
    with pytest.raises(C4CError, match="not there"):
        Dataset("d", "test", (clip,), (Caption("c", "b", "text"),))


def test_frames_check_their_shape() -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Frames(np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.float32))


def test_the_mask_of_a_batch_follows_its_lengths() -> None:
    batch = FeatureBatch(torch.zeros(3, 4, 2), torch.tensor([0, 2, 4]))
    assert batch.mask().sum(1).tolist() == [0, 2, 4]


MADE = Fingerprint("m", "w", "0", "p", "s", "d", "float32", "final", 64, False)
OTHERWISE = {"features": "hidden", "batch": 32, "compiled": True}


@pytest.mark.parametrize("field", [one.name for one in fields(Fingerprint)])
def test_fingerprints_differ_in_whatever_made_the_features(field: str) -> None:
    other = replace(MADE, **{field: OTHERWISE.get(field, "x")})
    mine, theirs = getattr(MADE, field), getattr(other, field)
    assert MADE.differences(other) == [f"{field}: {mine}, {theirs}"]
    assert MADE.differences(MADE) == []


def test_a_batch_that_is_not_known_differs_from_none() -> None:
    unknown = replace(MADE, batch=None)
    assert MADE.differences(unknown) == unknown.differences(MADE) == []
    assert unknown.differences(replace(unknown, decoder="x")) == ["decoder: d, x"]


def test_lengths_that_do_not_fit_features_are_refused() -> None:
    for shape, count in (((2, 3, 4), 3), ((2, 3), 2)):
        with pytest.raises(ValueError, match=r"expected \[B, T, D\] and \[B\]"):
            FeatureBatch(torch.zeros(shape), torch.zeros(count, dtype=torch.int64))
