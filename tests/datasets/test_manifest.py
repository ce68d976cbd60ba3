"""``manifest``: tables as on the Hugging Face hub."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.extract.datasets import divisions, load_dataset
from c4c.extract.datasets.unpack import unpack

pa = pytest.importorskip("pyarrow")
ROWS = [
    {"video": "v/a.mp4", "caption": ["one", "two"], "split": "train", "start": None, "end": None},
    {"video": "b", "caption": ["three"], "split": "test", "start": 1.5, "end": 4.0},
    {"video": "b", "caption": ["four"], "split": "test", "start": 4.0, "end": 6.0},
    {"video": "gone.mp4", "caption": ["five"], "split": "test", "start": None, "end": None},
]


def parquet(place, name: str, rows: list[dict[str, object]]) -> None:
    from pyarrow import parquet as files

    path = place.put(name, "")
    files.write_table(pa.Table.from_pylist(rows), path)


def summary(source: DatasetSource, split: str) -> tuple[object, ...]:
    found = load_dataset(source, split)
    clips = [(clip.id, clip.start, clip.end) for clip in found.clips]
    return clips, [(c.id, c.text) for c in found.captions], found.missing


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_one_file_gives_the_same_clips_in_every_form(form: str, place) -> None:
    place.videos("v/a.mp4", "v/b.webm")
    if form == "parquet":
        parquet(place, "captions.parquet", ROWS)
    else:
        lines = "\n".join(map(json.dumps, ROWS))
        place.put(f"captions.{form}", ROWS if form == "json" else lines)
    source = place.source("manifest", f"captions.{form}")
    assert divisions(source) == (("train", "test"),)
    assert summary(source, "train") == (
        [("v/a.mp4", 0.0, None)],
        [("v/a.mp4#0", "one"), ("v/a.mp4#1", "two")],
        (),
    )
    assert summary(source, "test") == (
        [("b@1.5-4", 1.5, 4.0), ("b@4-6", 4.0, 6.0)],
        [("b@1.5-4#0", "three"), ("b@4-6#0", "four")],
        ("gone.mp4",),
    )
    assert len(load_dataset(source, "all").captions) == 4


def test_csv_may_be_separated_by_tabs_under_its_own_name(place) -> None:
    place.videos("a.mp4")
    place.put("captions.csv", 'Video_ID\tSentence\tStart_Time\tEnd_Time\na\t"one, two"\t1\t2\n')
    source = place.source("manifest", "captions.csv")
    assert summary(source, "all")[:2] == ([("a@1-2", 1.0, 2.0)], [("a@1-2#0", "one, two")])


def test_absolute_names_must_lie_below_the_videos(place) -> None:
    place.videos("v/a.mp4")
    place.put("c.csv", f"video_path,text\n{place.root}/v/a.mp4,x\n")
    found = load_dataset(place.source("manifest", "c.csv"), "all")
    assert [clip.id for clip in found.clips] == ["v/a.mp4"]
    for name in (f"{place.root}-2/a.mp4", "/etc/passwd", f"{place.root}/../x"):
        place.put("c.csv", f"video_path,text\n{name},x\n")
        with pytest.raises(C4CError, match="line 2.*cannot be the id"):
            load_dataset(place.source("manifest", "c.csv"), "all")


def test_a_folder_holds_a_table_a_split(place) -> None:
    for number in (0, 1):
        rows = [{"video_id": f"t{number}", "caption": "x", "id": number}]
        parquet(place, f"data/train-0000{number}-of-00002.parquet", rows)
    place.put("validation.csv", "video_id,text\nv,y\n")
    place.put("README.csv", "this is,no table of captions\n1,2\n")
    place.videos("t0.mp4", "t1.mp4", "v.mp4")
    source = place.source("manifest")
    assert divisions(source) == (("train", "validation"),)
    found = load_dataset(source, "train")
    assert [clip.id for clip in found.clips] == ["t0", "t1"]  # not the column id, which counts


def test_metadata_beside_the_videos_names_the_split_by_its_folder(place) -> None:
    for split in ("train", "test"):
        place.put(f"{split}/metadata.csv", "file_name,text\n0.mp4,x\n")
        place.videos(f"{split}/0.mp4")
    place.put("clips/metadata.jsonl", '{"file_name": "1.mp4", "text": "y"}')
    place.videos("clips/1.mp4")
    source = place.source("manifest")
    assert [clip.id for clip in load_dataset(source, "test").clips] == ["test/0.mp4"]
    assert load_dataset(source, "train").clips[0].path.endswith("train/0.mp4")
    assert divisions(source) == (("test", "train"),)  # a folder of another name is no split
    assert len(load_dataset(source, "all").clips) == 3


def test_embedded_videos_are_not_read_and_their_path_is_taken(place) -> None:
    rows = [{"video": {"bytes": b"x" * 1000, "path": "a.mp4"}, "caption": "x", "raw": b"y"}]
    parquet(place, "train.parquet", rows)
    place.videos("a.mp4")
    assert [clip.id for clip in load_dataset(place.source("manifest"), "train").clips] == ["a.mp4"]


@pytest.mark.shows("dataset unpack", "--out")
def test_a_table_that_holds_its_videos_is_named_until_they_are_files(place) -> None:
    rows = [
        {"video": {"bytes": b"first", "path": "a.mp4"}, "caption": "x"},
        {"video": {"bytes": b"second", "path": None}, "caption": "y"},
        {"video": {"bytes": b"first", "path": "a.mp4"}, "caption": "z"},
    ]
    parquet(place, "data/test-00000-of-00001.parquet", rows)
    source = place.source("manifest")
    with pytest.raises(C4CError, match=r"row 1: the video 'a.mp4' lies in the table itself"):
        load_dataset(source, "test")
    table, out = place.root / "data/test-00000-of-00001.parquet", place.root / "videos"
    done = CliRunner().invoke(group, ["dataset", "unpack", str(table), "--out", str(out)])
    assert done.exit_code == 0
    assert "2 videos" in done.stderr
    found = load_dataset(source, "test")
    content = {clip.id: Path(clip.path).read_bytes() for clip in found.clips}
    assert content == {"a.mp4": b"first", "test-00000-of-00001-000002.mp4": b"second"}
    assert [caption.text for caption in found.captions] == ["x", "y", "z"]


def test_videos_of_a_plain_column_of_bytes_are_unpacked_too(place) -> None:
    parquet(place, "train.parquet", [{"video": b"first", "caption": "x"}])
    unpack([place.root / "train.parquet"], place.root / "videos")
    assert [clip.id for clip in load_dataset(place.source("manifest"), "train").clips] == [
        "train-000001.mp4"
    ]


def test_a_column_with_room_for_bytes_and_none_in_it_names_files(place) -> None:
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    videos = pa.array([{"bytes": None, "path": "gone.mp4"}], kind)
    path = place.put("train.parquet", "")
    from pyarrow import parquet as files

    files.write_table(pa.table({"video": videos, "caption": ["x"]}), path)
    assert load_dataset(place.source("manifest"), "train").missing == ("gone.mp4",)
    with pytest.raises(C4CError, match="no column of embedded videos"):
        unpack([path], place.root / "videos")


@pytest.mark.parametrize("name", ["../a.mp4", "/etc/a.mp4", "a\x01.mp4"])
def test_no_embedded_name_leads_out_of_the_folder(name: str, place) -> None:
    rows = [{"video": {"bytes": b"x", "path": name}, "caption": "x"}]
    parquet(place, "train.parquet", rows)
    with pytest.raises(C4CError, match="cannot be the id"):
        unpack([place.root / "train.parquet"], place.root / "out")
    assert not (place.root / "out").exists()


def test_two_embedded_videos_of_one_name_are_refused(place) -> None:
    rows = [{"video": {"bytes": data, "path": "a.mp4"}, "caption": "x"} for data in (b"1", b"2")]
    parquet(place, "train.parquet", rows)
    with pytest.raises(C4CError, match="row 2: another video is called 'a.mp4' too"):
        unpack([place.root / "train.parquet"], place.root / "out")


def test_nan_in_a_table_is_no_text_and_no_time(place) -> None:
    place.videos("a.mp4")
    nan = float("nan")
    parquet(place, "c.parquet", [{"video": "a", "caption": nan}])
    source = place.source("manifest", "c.parquet")
    with pytest.raises(C4CError, match="row 1 has no caption"):
        load_dataset(source, "all")
    parquet(place, "c.parquet", [{"video": "a", "caption": "x", "start": nan, "end": nan}])
    assert summary(source, "all")[0] == [("a", 0.0, None)]


def test_csv_may_be_separated_by_semicolons(place) -> None:
    place.videos("a.mp4")
    place.put("c.csv", "\ufeffvideo;caption;start;end\r\na;one, two;1;2\r\n")
    source = place.source("manifest", "c.csv")
    assert summary(source, "all")[:2] == ([("a@1-2", 1.0, 2.0)], [("a@1-2#0", "one, two")])


def damaged_parquet(place) -> None:
    parquet(place, "c.parquet", ROWS)
    path = place.root / "c.parquet"
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("c.parquet", damaged_parquet, "c.parquet is not a parquet file that can be read"),
        ("c.parquet", lambda place: None, "does not exist"),
        ("c.parquet", lambda p: parquet(p, "c.parquet", [{"video": "a"}]), "needs the columns"),
        ("c.parquet", lambda p: parquet(p, "c.parquet", [{"video": 1, "caption": []}]), "row 1"),
        ("c.csv", lambda place: place.put("c.csv", "video,caption\n"), "has no rows"),
        ("c.csv", lambda place: place.put("c.csv", ""), "has no rows"),
        ("c.csv", lambda p: p.put("c.csv", "video,caption\na,b\na\n"), "line 3: not 2 columns"),
        ("c.csv", lambda p: p.put("c.csv", 'video,caption\na,"b\n'), "is not CSV"),
        ("c.csv", lambda p: p.put("c.csv", "video,caption,start\na,b,-1\n"), "start is -1"),
        ("c.csv", lambda p: p.put("c.csv", "video,caption,end\na,b,-1\n"), "end is -1"),
        ("c.csv", lambda p: p.put("c.csv", "video,caption,end\na,b,inf\n"), "expected seconds"),
        ("c.csv", lambda p: p.put("c.csv", "video,caption,start,end\nno,b,5,2\n"), "line 2"),
        ("c.jsonl", lambda p: p.put("c.jsonl", '{"video": "a", "video": "b"}'), "duplicate key"),
        ("c.jsonl", lambda p: p.put("c.jsonl", '{"video": "a", "start": NaN}'), "holds NaN"),
        ("c.json", lambda p: p.put("c.json", [{"video": "a", "caption": ["x", ""]}]), "no caption"),
        ("c.json", lambda p: p.put("c.json", [3]), "row 1 is 3"),
    ],
)
def test_a_wrong_table_is_named(
    name: str, make: Callable[[object], None], words: str, place
) -> None:
    place.videos("a.mp4")
    make(place)
    with pytest.raises(C4CError, match=words) as caught:
        load_dataset(place.source("manifest", name), "all")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_folder_without_tables_says_what_it_looked_for(place) -> None:
    with pytest.raises(C4CError, match=r"no table in .*\(from --root\), such as metadata.csv"):
        load_dataset(place.source("manifest"), "train")


def test_one_table_in_two_formats_is_refused(place) -> None:
    place.put("train.csv", "video,caption\na,x\n")
    place.put("train.jsonl", '{"video": "a", "caption": "x"}')
    with pytest.raises(C4CError, match="seem to be one table"):
        load_dataset(place.source("manifest"), "train")


def test_without_pyarrow_parquet_says_how_to_get_it(place, monkeypatch) -> None:
    parquet(place, "c.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(C4CError, match=r"pip install 'c4c\[parquet\]'"):
        load_dataset(place.source("manifest", "c.parquet"), "all")


def test_a_parquet_whose_columns_are_of_other_types_than_it_says_is_refused() -> None:
    """A damaged byte; pyarrow itself ends the process that reads its statistics."""
    path = Path(__file__).parents[1] / "data/mistyped.parquet"
    code = "import sys; from pathlib import Path; from c4c.extract.datasets.parquet import *\n"
    code += "from c4c.core.errors import C4CError\n"
    code += "try: list(parquet_rows(Path(sys.argv[1])))\nexcept C4CError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "can be read: its rows of group 0 are not of the types it names" in done.stdout
