"""Windows, moments and confidence: against values made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c4c.core.errors import C4CError
from c4c.retrieval.confidence import Usual, confidence, unrelated_sentences
from c4c.retrieval.gallery_piece import Named
from c4c.retrieval.moments import find_moments, tightened
from c4c.retrieval.windows import Windows, cut_windows, frame_ends, shot_changes

NONE = np.zeros(0, np.int64)


def seconds(count: int, step: float = 1.0) -> np.ndarray:
    return (np.arange(count) * step).astype(np.float32)


def cut(count: int, windows: Windows, shots: Any = NONE, step: float = 1.0) -> list[list[int]]:
    return cut_windows(seconds(count, step), np.asarray(shots, np.int64), windows).tolist()


def test_windows_are_so_long_and_so_far_apart() -> None:
    assert cut(8, Windows((4.0,), 2.0)) == [[0, 4], [2, 6], [4, 8]]
    assert cut(8, Windows((4.0,), 2.0), step=0.5) == [[0, 8]]  # the whole clip is four seconds
    assert cut(9, Windows((4.0,), 2.0))[-1] == [5, 9]  # the last one ends with the clip
    assert cut(3, Windows()) == [[0, 3]]
    assert cut(1, Windows()) == [[0, 1]]


def test_windows_begin_a_second_apart_and_short_ones_closer() -> None:
    assert cut(11, Windows((8.0,))) == [[0, 8], [1, 9], [2, 10], [3, 11]]
    assert cut(5, Windows((2.0,)), step=0.5) == [[0, 4], [1, 5]]


def test_windows_go_by_time_where_frames_come_unevenly() -> None:
    times = np.array([0, 0.5, 1, 6, 7, 8], np.float32)
    assert cut_windows(times, NONE, Windows((2.0,), 2.0)).tolist() == [[0, 3], [3, 5], [4, 6]]


def test_a_window_has_no_sliver_of_another_shot_at_its_edge() -> None:
    plain = cut(12, Windows((8.0,), 2.0))
    assert plain == [[0, 8], [2, 10], [4, 12]]
    snapped = cut(12, Windows((8.0,), 2.0), shots=[3])
    assert [2, 10] not in snapped
    assert [3, 10] in snapped
    assert [0, 3] in snapped  # a shot is a window of its own


def test_a_shot_begins_where_frames_jump() -> None:
    frames = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 2, 2]]
    assert shot_changes(frames).tolist() == [3, 5]
    assert shot_changes(frames[:1]).tolist() == []
    assert shot_changes(frames[:2]).tolist() == []
    # What moves for a while and then rests does not cut, however long the rest is.
    turned = np.array([0, 0, 0, 0, 0, 0.8, 1.6, 2.4, 2.4, 2.4, 2.4])
    moving = np.stack((np.cos(turned), np.sin(turned)), 1).astype(np.float32)
    assert shot_changes(moving).tolist() == []
    # Frames that all move alike, as in a pan, are one shot.
    angle = np.arange(8) * 0.8
    pan = np.stack((np.cos(angle), np.sin(angle)), 1).astype(np.float32)
    assert shot_changes(pan).tolist() == []


def test_a_frame_is_shown_until_the_next_one() -> None:
    assert frame_ends(np.array([0, 2, 4], np.float32)).tolist() == [2, 4, 6]
    assert frame_ends(np.array([3], np.float32)).tolist() == [4]


@pytest.mark.parametrize("wrong", [{"lengths": ()}, {"lengths": (0.0,)}, {"hop": float("nan")}])
def test_windows_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(C4CError, match="--window|--hop"):
        Windows(**wrong)


def test_edges_that_fit_no_better_than_the_rest_are_cut_off() -> None:
    low, high = 0.1, 0.8
    cosines = np.array([low, low, low, high, high, high, low, low])
    assert tightened(cosines, 2, 7) == (3, 6)
    assert tightened(cosines, 0, 8) == (0, 8)  # nothing to compare with
    assert tightened(cosines, 0, 3) == (0, 3)  # it fits worse than the rest
    assert tightened(np.array([high, *[low] * 7]), 0, 3) == (0, 2)  # half stays


def test_a_window_stays_whole_where_frames_do_not_tell_it_from_the_rest() -> None:
    inside, around = [0.1, 0.5, 0.6, 0.2, 0.5], [0.2, 0.5, 0.1, 0.4, 0.3]
    cosines = np.array([*inside, *around])
    assert np.mean(inside) > np.mean(around)
    assert tightened(cosines, 0, 5) == (0, 5)
    clear = np.array([0.1, 0.5, 0.6, 0.5, 0.5, *[0.1] * 5])  # their means are far apart
    assert tightened(clear, 0, 5) == (1, 5)


class _Piece:
    """Clips of one-second frames that a test makes up, as a gallery holds them."""

    def __init__(self, clips: list[tuple[Named, np.ndarray, int]], spans: list[list[int]]) -> None:
        self._clips, self.spans = clips, np.array(spans, np.int32)
        self.content = np.array([content for _, _, content in clips])

    def name(self, clip: int) -> Named:
        return self._clips[clip][0]

    def clip_frames(self, clip: int) -> tuple[torch.Tensor, np.ndarray]:
        frames = self._clips[clip][1]
        return torch.from_numpy(frames).half(), seconds(len(frames))

    def clip_times(self, clip: int) -> tuple[np.ndarray, np.ndarray]:
        times = self.clip_frames(clip)[1]
        return times, frame_ends(times)


def clip(name: str, path: str, cosines: list[float], content: int, start: float = 0.0) -> Any:
    """A clip whose frames have these cosines with the query [1, 0]."""
    across = np.sqrt(1 - np.square(cosines))
    frames = np.stack((cosines, across), 1).astype(np.float32)
    return Named(name, path, start, None, False), frames, content


def moments(
    clips: list[Any], windows: list[tuple[float, list[int]]], **more: Any
) -> list[tuple[Any, ...]]:
    pieces: Any = [_Piece(clips, [span for _, span in windows])]
    ranked = [(score, 0, row) for row, (score, _) in enumerate(windows)]
    found = find_moments(pieces, torch.tensor([1.0, 0.0]), ranked, **more)
    return [(m.named.id, m.start, m.end, m.best, round(m.score, 2), m.copies) for m in found]


def test_windows_that_overlap_are_one_moment() -> None:
    video = clip("a", "a.mp4", [0.1, 0.1, 0.6, 0.9, 0.6, 0.1, 0.1, 0.1], 1)
    windows = [(0.9, [0, 2, 5]), (0.8, [0, 1, 5]), (0.7, [0, 5, 8])]
    one, other = moments([video], windows, ordered=True, count=5)
    assert one == ("a", 2.0, 5.0, 3.0, 0.9, [])
    assert other[:3] == ("a", 5.0, 8.0)


def test_a_moment_of_mean_pooling_scores_as_its_better_frames() -> None:
    video = clip("a", "a.mp4", [0.1, 0.9, 0.6, 0.7, 0.1], 1)
    ((*_, score, _),) = moments([video], [(0.8, [0, 1, 4])], ordered=False, count=5)
    assert score == pytest.approx((0.9 + 0.7) / 2, abs=0.01)


def test_moments_of_clips_of_one_video_overlap_in_its_own_time() -> None:
    first = clip("a", "v.mp4", [0.5] * 4, 1)
    second = clip("b", "v.mp4", [0.5] * 4, 2, start=1.0)
    apart = clip("c", "v.mp4", [0.5] * 4, 3, start=40.0)
    windows = [(0.9, [0, 1, 4]), (0.8, [1, 0, 3]), (0.7, [2, 0, 3])]
    found = moments([first, second, apart], windows, ordered=True, count=5)
    assert [(name, start, end) for name, start, end, *_ in found] == [
        ("a", 1.0, 4.0),
        ("c", 40.0, 43.0),
    ]
    few = moments([first, second, apart], windows, ordered=True, count=5, per_video=1)
    assert [name for name, *_ in few] == ["a"]


def test_copies_of_a_video_are_named_beside_it() -> None:
    one, copy = clip("a", "a.mp4", [0.5] * 4, 1), clip("b", "b.mp4", [0.5] * 4, 1)
    other = clip("c", "c.mp4", [0.5] * 4, 2)
    windows = [(0.9, [0, 0, 4]), (0.9, [1, 0, 4]), (0.9, [2, 0, 4])]
    found = moments([one, copy, other], windows, ordered=True, count=5)
    assert [(name, copies) for name, *_, copies in found] == [("a", ["b.mp4"]), ("c", [])]


def test_confidence_is_the_share_of_unrelated_sentences_below() -> None:
    unrelated = np.random.default_rng(0).normal(0.3, 0.05, 4000).astype(np.float32)
    for score in (0.22, 0.3, 0.36):
        told = confidence(score, Usual.of(unrelated))
        assert told == pytest.approx((unrelated < score).mean(), abs=0.02)
    assert confidence(0.3, Usual.of(np.zeros(0, np.float32))) is None
    assert len(set(unrelated_sentences())) == 128


def test_a_missing_folder_is_not_a_gallery(tmp_path: Path) -> None:
    from c4c.retrieval.gallery_piece import open_piece

    with pytest.raises(C4CError, match="does not exist"):
        open_piece(tmp_path / "piece", 8)
