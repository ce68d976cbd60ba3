"""Loaders: the layouts as they are, and what is wrong in them as one line that says where."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.extract.datasets import load_dataset, shapes, shapes_unseen
from c4c.extract.datasets.check import check_dataset
from c4c.extract.datasets.lsmdc import FILES
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import Edition, make_shapes, plan_scenes
from c4c.extract.datasets.shapes_render import FPS, OPPOSITE, draw_look
from c4c.extract.video.decode import decode_clip


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def folder(root: Path, name: str, content: str | bytes) -> DatasetSource:
    path = root / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return DatasetSource("folder", root, captions=path)


# shapes


EDITIONS = pytest.mark.parametrize(
    "edition", [shapes.EDITION, shapes_unseen.EDITION], ids=lambda edition: edition.name
)


def drawn(edition: Edition, scene: shapes.Scene) -> np.ndarray:
    """The frames of a scene at whole seconds, which extraction samples."""
    return edition.render(scene.events, scene.look)[::FPS]


@EDITIONS
def test_twins_show_the_same_frames_in_another_order(edition: Edition) -> None:
    scenes = plan_scenes(Recipe(seed=4, train=0, val=0, test=24), edition)
    for one, two in zip(scenes[::2], scenes[1::2], strict=True):
        assert (one.twin, two.twin) == (two.id, one.id)
        first, second = drawn(edition, one), drawn(edition, two)
        assert not np.array_equal(first, second)
        assert sorted(f.tobytes() for f in first) == sorted(f.tobytes() for f in second)


@EDITIONS
def test_no_caption_stands_twice_in_any_split(edition: Edition) -> None:
    captions = [scene.caption for scene in plan_scenes(Recipe(seed=4), edition)]
    assert len(captions) == len(set(captions)) == 2100


@EDITIONS
def test_shapes_decode_to_what_was_drawn_and_depend_on_the_seed(
    edition: Edition, tmp_path: Path
) -> None:
    recipe = Recipe(seed=6, train=2, val=0, test=2)
    assert make_shapes(tmp_path / "s", recipe, edition)
    assert not make_shapes(tmp_path / "s", recipe, edition)
    with pytest.raises(C4CError, match="already there"):
        make_shapes(tmp_path / "s", Recipe(seed=7, train=2, val=0, test=2), edition)
    dataset = load_dataset(DatasetSource(edition.name, tmp_path / "s"), "test")
    scenes = {scene.id: scene for scene in plan_scenes(recipe, edition)}
    for clip in dataset.clips:
        frames = drawn(edition, scenes[clip.id])
        seen = decode_clip(clip).frames.pixels
        assert seen.shape == frames.shape
        assert np.abs(seen.astype(int) - frames).mean() < 6
    assert plan_scenes(recipe, edition) == plan_scenes(recipe, edition)
    other = Recipe(seed=7, train=2, val=0, test=2)
    assert plan_scenes(recipe, edition) != plan_scenes(other, edition)


def test_the_unseen_edition_shares_no_look_with_what_the_backbone_was_trained_on() -> None:
    """Other colours, shapes and textures, all of them drawn; and the background moves."""
    edition = shapes_unseen.EDITION
    words = [{word for event in one.events for word in str(event).split()} for one in
             (edition, shapes.EDITION)]  # fmt: skip
    shared = words[0] & words[1]
    assert shared == {"a", *(word for action in OPPOSITE for word in action.split())}
    look = draw_look(np.random.default_rng(3))
    middles = {
        (event.colour, event.shape, event.texture): edition.render((event,), look)[6].tobytes()
        for event in edition.events
        if event.action == "grows"
    }
    assert len(set(middles.values())) == len(middles) == 32
    corner = edition.render((edition.events[0],), look)[:, :4, :4].astype(int)
    assert np.abs(np.diff(corner, axis=0)).sum((1, 2, 3)).min() > 0


def test_an_edition_is_not_taken_for_another(made_shapes: Path) -> None:
    with pytest.raises(C4CError, match=r"no shapes-unseen\.json.*make shapes-unseen"):
        load_dataset(DatasetSource("shapes-unseen", made_shapes), "test")


def test_a_folder_that_is_no_shapes_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match=r"no shapes\.json"):
        load_dataset(DatasetSource("shapes", tmp_path), "test")


@pytest.fixture(scope="module")
def made_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes") / "s"
    make_shapes(root, Recipe(seed=6, train=2, val=0, test=2))
    return root


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "videos/train-00001.mp4").unlink(), "1 videos are lost"),
        (lambda root: (root / "videos/train-00000.mp4").write_bytes(b""), "train-00000.mp4"),
        (lambda root: cut_lines(root / "captions.jsonl", 1), "1 of 2 clips"),
        (lambda root: (root / "captions.jsonl").write_text("[["), "not JSON"),
        (lambda root: edit(root / "captions.jsonl", '"twin"', '"win"'), "has no 'twin'"),
        (
            lambda root: edit(root / "captions.jsonl", '"caption": "', '"caption": 3, "c": "'),
            "caption is 3",
        ),
        (lambda root: (root / "shapes.json").write_text("3"), "damaged"),
        (lambda root: (root / "shapes.json").write_text("{}"), "damaged"),
    ],
)
def test_shapes_damaged_after_they_were_made_are_noticed(
    damage: Callable[[Path], None], words: str, made_shapes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "s"
    shutil.copytree(made_shapes, root)
    assert len(load_dataset(DatasetSource("shapes", root), "train").clips) == 2
    damage(root)
    with pytest.raises(C4CError, match=words) as caught:
        load_dataset(DatasetSource("shapes", root), "train")
    assert "make it again" in str(caught.value)


def edit(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text().replace(before, after))


def cut_lines(path: Path, keep: int) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[-keep:]))


# folder


def test_stems_that_could_be_another_file_become_paths(tmp_path: Path) -> None:
    touch(tmp_path / "b.mp4", tmp_path / "b.avi", tmp_path / "b.mp4.webm", tmp_path / "c.mp4")
    touch(tmp_path / "odd\\x07.mp4", tmp_path / "odd\x07.mp4", tmp_path / "B.mov")
    found = load_dataset(DatasetSource("folder", tmp_path), "all")
    names = {"b.mp4", "b.avi", "b.mp4.webm", "c", "odd\\x5cx07", "odd\\x07", "B"}
    assert {clip.id for clip in found.clips} == names


def test_captions_that_name_a_stem_of_several_videos_are_noted(tmp_path: Path) -> None:
    touch(tmp_path / "x/b.mp4", tmp_path / "y/b.avi", tmp_path / "y/b.mp4")
    found = load_dataset(folder(tmp_path, "c.csv", "clip,caption\nb,one\ny/b.avi,two\n"), "all")
    assert found.notes[0] == (
        "1 clips have several videos, the first is taken ('b' has 3, taken: x/b.mp4)"
    )


def test_ids_alike_but_for_case_are_noted(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "A.mp4")
    notes = load_dataset(DatasetSource("folder", tmp_path), "all").notes
    assert notes == ("1 ids differ from another in case or Unicode form only ('A' and 'a')",)


def test_a_folder_that_is_not_there_says_how_it_was_looked_for(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(C4CError, match=r"no folder .*gone \(from \$C4C_DATA/folder\)"):
        load_dataset(DatasetSource("folder", gone, looked="$C4C_DATA/folder"), "all")
    with pytest.raises(C4CError, match=r"no folder .*gone \(from --videos or c4c.toml\)"):
        load_dataset(DatasetSource("folder", tmp_path, videos=gone), "all")


def test_videos_without_captions_are_named_by_stem_or_by_path(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "x/b.webm", tmp_path / "y/b.mp4", tmp_path / ".h/c.mp4")
    found = load_dataset(DatasetSource("folder", tmp_path), "all")
    assert [clip.id for clip in found.clips] == ["a", "x/b.webm", "y/b.mp4"]
    words = "2 videos have a name that another has too; their ids are their paths below the root"
    assert found.notes == (f"{words} (first 'x/b.webm')",)


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path / "disk/a.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/videos").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/again").symlink_to(tmp_path / "root")
    found = load_dataset(DatasetSource("folder", tmp_path / "root"), "all")
    assert [clip.id for clip in found.clips] == ["a"]


def test_captions_name_videos_parts_and_splits(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4")
    text = (
        "\ufeffClip,caption,start,end,split\r\n"
        'a.mp4,"one, two",,,train\r\n'
        "a,three,1,2.5,test\r\n"
        "b,four,,,test\r\ngone,five,,,test\r\n"
    )
    found = load_dataset(folder(tmp_path, "c.csv", text), "test")
    assert [(c.id, c.start, c.end) for c in found.clips] == [("a@1-2.5", 1, 2.5), ("b", 0, None)]
    assert [caption.text for caption in found.captions] == ["three", "four"]
    assert found.missing == ("gone",)
    rows = [{"video": "b", "caption": "x"}, {"video": "b", "caption": "y", "id": "second"}]
    lines = "\n".join(map(json.dumps, rows))
    found = load_dataset(folder(tmp_path, "c.jsonl", lines), "all")
    assert [clip.id for clip in found.clips] == ["a", "b", "second"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.csv", "clip\na\n", "needs the columns"),
        ("c.csv", "clip,clip,caption\na,a,x\n", "clip twice"),
        ("c.csv", "clip,caption\na,x,y\n", "line 2"),
        ("c.csv", "clip,caption\na,\n", "no caption"),
        ("c.csv", b"clip,caption\na,caf\xe9\n", "line 2 is not UTF-8"),
        ("c.csv", b"clip,caption\na,x\x00\n", "NUL"),
        ("c.csv", "clip,caption\n../a,x\n", "cannot be the id"),
        ("c.csv", "clip,caption\n/etc/passwd,x\n", "cannot be the id"),
        ("c.csv", "clip,caption,id\na,x,../../y\n", "cannot be the id"),
        ("c.csv", "clip,caption,start,end\na,x,5,2\n", "line 2"),
        ("c.csv", "clip,caption,start\na,x,nan\n", "expected seconds"),
        ("c.jsonl", '{"clip": "a", "caption": "x", "start": 1' + "0" * 400 + "}", "line 1"),
        ("c.jsonl", '{"clip": "a", "caption": [["x"]]}', "caption is list"),
        ("c.jsonl", '{"clip": "a", "caption": "x", "start": true}', "expected seconds"),
        ("c.jsonl", '{"clip": "a"', "line 1 is not JSON"),
        ("c.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("c.jsonl", "3", "not a JSON object"),
        ("c.jsonl", '{"clip": "a", "caption": "x \\ud800"}', "half a character"),
    ],
)
def test_a_wrong_line_is_named(name: str, content: str | bytes, words: str, tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    with pytest.raises(C4CError, match=words) as caught:
        load_dataset(folder(tmp_path, name, content), "all")
    assert "\n" not in str(caught.value)


def test_names_of_videos_are_read_as_people_and_other_systems_write_them(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "x/b.mp4", tmp_path / "c.mp4")
    text = "\ufeffvideo;caption\n./a.mp4;one, two\nx\\b.mp4;three\n.\\c.mp4;four\n"
    found = load_dataset(folder(tmp_path, "c.csv", text), "all")
    assert found.missing == ()
    assert [(c.id, Path(c.path).name) for c in found.clips] == [
        *(("a.mp4", "a.mp4"), ("c.mp4", "c.mp4"), ("x/b.mp4", "b.mp4"))
    ]
    assert [one.text for one in found.captions] == ["one, two", "three", "four"]


def test_a_tables_way_of_saying_nothing_is_no_caption(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    touch(tmp_path / "a.mp4")
    table = pa.table({"video": ["a.mp4"], "caption": pa.array([float("nan")])})
    parquet.write_table(table, tmp_path / "c.parquet")
    source = DatasetSource("folder", tmp_path, captions=tmp_path / "c.parquet")
    with pytest.raises(C4CError, match="row 1 has no caption"):
        load_dataset(source, "all")


def test_captions_leave_out_no_video_unless_asked(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4")
    source = folder(tmp_path, "c.csv", "video,caption,start,end\na.mp4,one,,\nb.mp4,two,1,2\n")
    found = load_dataset(source, "all")
    assert [clip.id for clip in found.clips] == ["a.mp4", "b", "b.mp4@1-2", "c"]
    few = load_dataset(replace(source, only_captioned=True), "all")
    assert [clip.id for clip in few.clips] == ["a.mp4", "b.mp4@1-2"]


def test_folders_that_a_disk_keeps_for_itself_hold_no_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "a.VOB", tmp_path / "b.tod", tmp_path / "c.LRV", tmp_path / "d.insv")
    for name in ("#recycle", "$RECYCLE.BIN", "@eaDir"):
        touch(tmp_path / name / "gone.mp4")
    found = load_dataset(DatasetSource("folder", tmp_path), "all")
    assert [clip.id for clip in found.clips] == ["a", "b", "c", "d"]
    words = capsys.readouterr().err
    assert all(f"passed over {tmp_path / name}" in words for name in ("#recycle", "@eaDir"))


# lsmdc


def lsmdc(root: Path, split: str, text: str) -> DatasetSource:
    (root / FILES[split]).write_text(text, encoding="utf-8")
    return DatasetSource("lsmdc", root, looked="--root")


def line(clip: str, sentence: str) -> str:
    return f"{clip}\t00.00.10,000\t00.00.12,000\t00.00.10,100\t00.00.12,100\t{sentence}\r\n"


def test_lsmdc_finds_clips_by_stem_and_keeps_recurring_ids(tmp_path: Path) -> None:
    one, two = "0001_Film_00.00.10.000-00.00.12.000", "0002_Other_00.01.10.000-00.01.12.000"
    touch(tmp_path / "videos/0001_Film" / f"{one}.avi", tmp_path / "videos" / f"{two}.avi")
    text = line(one, "SOMEONE runs.") + line(one, "He runs.") + line(two, "x") + line("gone.1", "y")
    found = load_dataset(lsmdc(tmp_path, "train", text), "train")
    assert [clip.id for clip in found.clips] == [one, two]
    assert len(found.captions) == 3
    assert found.missing == ("gone.1",)
    assert any("101079" in note for note in found.notes)
    with pytest.raises(C4CError, match="not complete"):
        load_dataset(lsmdc(tmp_path, "train", text), "train", strict=True)


def test_a_tab_in_a_sentence_of_lsmdc_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match="line 2 has 7 columns, expected 6"):
        load_dataset(lsmdc(tmp_path, "val", line("a", "x") + line("b", "y\tz")), "val")


def test_lsmdc_that_is_not_there_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match="LSMDC16_challenge_1000_publictect") as caught:
        load_dataset(DatasetSource("lsmdc", tmp_path, looked="$C4C_DATA/lsmdc"), "test")
    assert str(tmp_path) in str(caught.value)
    assert "$C4C_DATA/lsmdc" in str(caught.value)


def test_the_check_names_leaks_between_splits(tmp_path: Path) -> None:
    touch(tmp_path / "v/a.avi")
    source = lsmdc(tmp_path, "train", line("a", "x") + line("a", "x"))
    lsmdc(tmp_path, "val", line("a", "z"))
    table = check_dataset(source, ("train", "val")).table()
    assert "share 1 clips" in table
    assert "repeat" in table
