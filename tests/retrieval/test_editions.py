"""An edition of MSR-VTT that is not comparable is recognised by its clips and said everywhere."""

import pytest

from c4c.core.editions import edition_notes
from c4c.extract.datasets import load_dataset

TEST = [f"video{number}" for number in range(7010, 10_000, 3)][:879]


@pytest.mark.parametrize(
    "ids",
    [
        TEST,
        [f"{name}.mp4" for name in TEST],
        [f"videos/{name}.webm" for name in TEST],
        [f"test-00000-of-00003-{number:06d}.mp4" for number in range(879)],
    ],
)
def test_the_879_clips_with_sound_are_recognised(ids: list[str]) -> None:
    (note,) = edition_notes(ids)
    assert "879" in note
    assert "nDCG@10" in note
    assert edition_notes(ids[1:]) == []
    assert edition_notes([*ids[1:], "video12"]) == []


def test_a_gallery_of_the_1000_with_only_those_videos_is_told_too(tmp_path) -> None:
    from c4c.core.config import DatasetSource

    rows = [f"r,m,video{number},sentence {number}" for number in range(7010, 8010)]
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(
        "\n".join(["key,vid_key,video_id,sentence", *rows])
    )
    for number in range(7010, 7889):
        (tmp_path / f"video{number}.mp4").write_bytes(b"x")
    found = load_dataset(DatasetSource("msrvtt", tmp_path), "test")
    assert any("edition of the MVEB board" in note for note in found.notes)
