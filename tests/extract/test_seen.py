"""The record of clips a model has seen: by id, file and content, where stretches overlap."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from c4c.cache import seen
from c4c.cache.seen import FILE, ClipSet, Seen
from c4c.cache.stamps import file_stamps
from c4c.core.errors import C4CError
from c4c.core.records import Clip, Overlap


def test_a_clip_is_known_by_id_by_file_and_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one video")
    (tmp_path / "copy.mp4").write_bytes(b"one video")
    (tmp_path / "other.mp4").write_bytes(b"another")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    names = ["a.mp4", "copy.mp4", "other.mp4", "link.mp4"]
    paths = {name: str(tmp_path / name) for name in names}
    stamps = file_stamps(paths.values())
    trained = ClipSet.of([Clip("a", paths["a.mp4"])], stamps)
    for clip, found in (
        (Clip("a", paths["other.mp4"]), Overlap(1, by_id=1, first="a")),
        (Clip("b", paths["copy.mp4"]), Overlap(1, by_content=1, first="b")),
        (Clip("c", paths["link.mp4"]), Overlap(1, by_file=1, by_content=1, first="c")),
        (Clip("d", paths["other.mp4"]), Overlap()),
    ):
        assert trained.shared([clip], stamps) == found
    without = ClipSet.of([Clip("a", paths["a.mp4"])])
    assert without.shared([Clip("b", paths["copy.mp4"])], stamps) == Overlap()


seconds = st.integers(0, 6)


@st.composite
def stretches(draw: st.DrawFn, name: str) -> list[Clip]:
    found = []
    for place in range(draw(st.integers(0, 5))):
        start, length = draw(seconds), draw(st.none() | st.integers(1, 3))
        end = None if length is None else float(start + length)
        path = f"/v/{draw(st.sampled_from('xyz'))}.mp4"
        found.append(Clip(f"{name}{place}", path, float(start), end))
    return found


@given(stretches("t"), stretches("e"))
def test_stretches_of_one_file_are_shared_where_they_overlap(
    trained: list[Clip], evaluated: list[Clip]
) -> None:
    def overlap(a: Clip, b: Clip) -> bool:
        ends = [np.inf if one.end is None else one.end for one in (a, b)]
        return a.path == b.path and a.start < ends[1] and b.start < ends[0]

    naive = [clip for clip in evaluated if any(overlap(clip, other) for other in trained)]
    stamps = {f"/v/{name}.mp4": name for name in "xyz"}
    found = ClipSet.of(trained, stamps).shared(evaluated, stamps)
    first = naive[0].id if naive else ""
    assert found == Overlap(len(naive), 0, len(naive), len(naive), first)


def test_a_record_is_the_same_in_any_order_and_read_back_whole(tmp_path: Path) -> None:
    clips = [
        Clip(f"c{i}", f"/v/{i % 7}.mp4", float(i), None if i % 3 else i + 2.0) for i in range(50)
    ]
    stamps = {clip.path: f"{len(clip.path)}-x" for clip in clips[:20]}
    record = Seen.of(clips, stamps, chosen=clips[:5])
    again = Seen.of(reversed(clips), stamps, chosen=clips[4::-1])
    assert record.as_bytes() == again.as_bytes() == (record | again).as_bytes()
    assert (record | Seen.nothing("why")).unknown == "why"
    (tmp_path / FILE).write_bytes((record | Seen.nothing("why")).as_bytes())
    back = Seen.read(tmp_path)
    assert back.as_bytes() == (record | Seen.nothing("why")).as_bytes()
    assert (len(back.trained), len(back.chosen)) == (50, 5)
    leak = back.leak(clips[:10], stamps)
    assert (leak.evaluated, leak.trained.by_id, leak.chosen.clips, leak.unknown) == (
        10,
        10,
        10,
        "why",
    )


def test_no_record_is_told_from_an_empty_one(tmp_path: Path) -> None:
    assert Seen.read(tmp_path).unknown == ""
    assert Seen.read(tmp_path, "nobody wrote it down").unknown == "nobody wrote it down"
    (tmp_path / FILE).write_bytes(Seen.nothing().as_bytes())
    assert Seen.read(tmp_path, "nobody wrote it down").unknown == ""


def test_a_large_record_notes_whole_videos_and_then_nothing(monkeypatch) -> None:
    monkeypatch.setattr(seen, "MOST", 4)
    clips = [Clip(f"c{i}", "/v/a.mp4", float(i), i + 1.0) for i in range(5)]
    record = Seen.of(clips, {})
    assert len(record.trained) == 1
    assert record.trained.shared([Clip("x", "/v/a.mp4", 90.0, 91.0)]).by_file == 1
    assert record.trained.shared([Clip("c0", "/v/b.mp4")]).clips == 0
    several = Seen.of([Clip(f"c{i}", f"/v/{i}.mp4") for i in range(5)], {})
    assert len(several.trained) == 0
    assert "too many to record" in several.unknown


@pytest.mark.parametrize("damage", ["cut", "columns", "types", "lengths", "text"])
def test_a_damaged_record_is_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(Seen.of([Clip("a", "/a")], {}).as_bytes())
    columns = load_file(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "text":
        path.write_text("no record")
    else:
        if damage == "columns":
            del columns["trained.id"]
        elif damage == "types":
            columns["trained.id"] = columns["trained.id"].astype(np.int32)
        else:
            columns["trained.id"] = np.zeros(3, np.int64)
        save_file(columns, path)
    with pytest.raises(C4CError, match="seen.safetensors is damaged"):
        Seen.read(tmp_path)


def test_a_path_that_is_not_utf8_is_recorded() -> None:
    odd = os.fsdecode(b"/v/\xff.mp4")
    assert ClipSet.of([Clip("a", odd)]).shared([Clip("b", odd)]).by_file == 1
