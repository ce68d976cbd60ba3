"""Hits for other programs: each form opens in a reader of its own, with the right times."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import av
import pytest
from click.testing import CliRunner
from PIL import Image

from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.core.records import Query
from c4c.extract.video.apart import look
from c4c.retrieval.hit_files import FORMS, cut_hits, export_hits
from c4c.retrieval.search import Hit

EVIL = "<script>alert('x')</script> & \x1b[2J --> more"


@pytest.fixture
def hits(shapes_root: Path) -> list[Hit]:
    """Two questions, two videos; one hit to the end of its video."""
    first, second = (str(shapes_root / f"videos/val-0000{n}-a.mp4") for n in range(2))
    asked = Query(EVIL, 7)
    return [
        Hit(asked, 1, 0.5, 0.875, "one", first, 2.5, 5.25, 3.0, ("partial: it is damaged",)),
        Hit(asked, 2, 0.25, None, "two", second, 1.0, None),
        Hit("a dog", 1, 0.125, 0.5, "one", first, 0.0, 1.5, 0.5),
    ]


def cues(hits: list[Hit]) -> dict[str, list[tuple[float, float, str]]]:
    """What the subtitles of each video are to say: in order of time."""
    shown = EVIL.replace("\x1b", "\\x1b")
    return {
        Path(hits[0].path).stem: [(0.0, 1.5, "a dog (50 %)"), (2.5, 5.25, f"{shown} (88 %)")],
        Path(hits[1].path).stem: [(1.0, look(hits[1].path).seconds, shown)],
    }


def test_vtt_opens_in_its_own_reader(hits: list[Hit], tmp_path: Path) -> None:
    import html

    webvtt = pytest.importorskip("webvtt")
    made = export_hits(hits, "vtt", tmp_path / "out")
    assert {path.stem for path in made} == set(cues(hits))
    for path in made:
        told = [
            (seconds(one.start), seconds(one.end), html.unescape(one.raw_text))
            for one in webvtt.read(str(path))
        ]
        assert told == [(a, round(b, 3), text) for a, b, text in cues(hits)[path.stem]]


def seconds(stamp: str) -> float:
    hours, minutes, rest = stamp.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def test_srt_opens_in_its_own_reader(hits: list[Hit], tmp_path: Path) -> None:
    srt = pytest.importorskip("srt")
    for path in export_hits(hits, "srt", tmp_path / "out"):
        told = list(srt.parse(path.read_text()))
        assert [one.index for one in told] == list(range(1, len(told) + 1))
        assert [(one.start, one.end, one.content) for one in told] == [
            (timedelta(seconds=start), timedelta(seconds=round(end, 3)), text)
            for start, end, text in cues(hits)[path.stem]
        ]


def test_otio_opens_in_its_own_library(hits: list[Hit], tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    (path,) = export_hits(hits, "otio", tmp_path / "hits.otio")
    (track,) = otio.adapters.read_from_file(str(path)).tracks
    assert [one.name for one in track] == [hit.query for hit in hits]
    for one, hit in zip(track, hits, strict=True):
        film = look(hit.path)
        end = film.seconds if hit.end is None else hit.end
        half = 0.5 / film.rate
        assert one.source_range.start_time.rate == film.rate
        assert one.source_range.start_time.to_seconds() == pytest.approx(hit.start, abs=half)
        assert one.source_range.end_time_exclusive().to_seconds() == pytest.approx(end, abs=half)
        assert one.media_reference.available_range.duration.to_seconds() == film.seconds
        assert unquote(urlsplit(one.media_reference.target_url).path) == hit.path
        marks = [mark.marked_range.start_time.to_seconds() for mark in one.markers]
        assert marks == pytest.approx([] if hit.best is None else [hit.best], abs=half)
        assert one.metadata["c4c"]["rank"] == hit.rank


def test_a_video_that_is_gone_is_on_the_time_line_when_its_end_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(tmp_path / "a b#.mp4")
    hits = [
        Hit("q", 1, 1.0, None, "a", gone, 1.5, 2.25),
        Hit("q", 2, 1.0, None, "a", gone, 0, None),
    ]
    (path,) = export_hits(hits, "otio", tmp_path / "hits.otio")
    (clip,) = json.loads(path.read_text())["tracks"]["children"][0]["children"]
    assert clip["source_range"]["start_time"] == {
        "OTIO_SCHEMA": "RationalTime.1", "value": 1500, "rate": 1000,
    }  # fmt: skip
    assert clip["media_reference"]["target_url"] == f"file://{tmp_path}/a%20b%23.mp4"
    assert "not on the time line" in capsys.readouterr().err
    (path,) = export_hits(hits, "vtt", tmp_path)
    assert path.read_text() == "WEBVTT\n\n00:00:01.500 --> 00:00:02.250\nq\n"


def test_a_table_has_every_field_of_a_hit(hits: list[Hit], tmp_path: Path) -> None:
    (path,) = export_hits(hits, "csv", tmp_path / "hits.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["id"] for row in rows] == ["7", "7", ""]
    assert [row["query"] for row in rows] == [hit.query for hit in hits]
    assert [(row["start"], row["end"], row["best"]) for row in rows] == [
        ("2.5", "5.25", "3.0"), ("1.0", "", ""), ("0.0", "1.5", "0.5"),
    ]  # fmt: skip
    assert rows[0]["notes"] == "partial: it is damaged"


def test_a_page_stands_alone_with_pictures_and_links(hits: list[Hit], tmp_path: Path) -> None:
    gone = tmp_path / "<b>'gone\".mp4"
    more = [*hits, Hit("<i>", 1, 1.0, None, "<u>", str(gone), 0.0, None)]
    (path,) = export_hits(more, "html", tmp_path / "hits.html")
    page = path.read_text()
    assert not re.search(r"<(script|b>'|i>|u>)", page.replace("<i>no video</i>", ""))
    assert "\x1b" not in page and page.count("no video") == 1
    links = re.findall(r"href='([^']*)'", page)
    assert links[0] == f"file://{hits[0].path}#t=2.5,5.25" and links[1].endswith("#t=1")
    assert unquote(urlsplit(links[3]).path) == str(gone)
    assert not re.search(r"(src|href)='(?!data:image/jpeg;base64,|file://)", page)
    pictures = re.findall(r"base64,([^']+)'", page)
    assert [Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures] == [
        (64, 64)
    ] * 3


def test_videos_of_the_same_name_have_files_of_their_own(tmp_path: Path) -> None:
    hits = [Hit("q", 1, 1.0, None, "a", f"/{folder}/a.mp4", 0.0, 1.0) for folder in "xyx"]
    made = export_hits(hits, "srt", tmp_path)
    assert [path.name for path in made] == ["a.srt", "a-2.srt"]
    assert made[0].read_text().count("-->") == 2


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match="Unknown form 'doc'. Known: vtt, srt, otio, csv, html"):
        export_hits([], "doc", tmp_path)


def test_what_was_found_is_cut_once_each(
    hits: list[Hit], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Hit("q", 1, 1.0, None, "a", str(tmp_path / "gone.mp4"), 0.0, 1.0)
    made = cut_hits([hits[2], hits[2], gone], tmp_path / "cuts")
    assert made == list((tmp_path / "cuts").iterdir()) and len(made) == 1
    assert "gone.mp4 cannot be decoded" in capsys.readouterr().err
    with pytest.raises(C4CError, match="Nothing could be cut: .*gone.mp4"):
        cut_hits([gone], tmp_path / "cuts")


@pytest.fixture
def retrieve(shapes_cache: Path) -> Callable[..., Any]:
    def run(*args: str) -> Any:
        command = ["retrieve", "--cache", str(shapes_cache), "a red circle moves left", *args]
        done = CliRunner().invoke(group, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done

    return run


@pytest.mark.shows("retrieve", "--export")
def test_the_command_writes_hits_in_any_form(
    retrieve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = [json.loads(line) for line in retrieve("--top-k", "2").stdout.splitlines()]
    assert FORMS == ("vtt", "srt", "otio", "csv", "html")
    for form in ("csv", "srt"):
        done = retrieve("--top-k", "2", "--export", form)
        assert done.stdout == "" and "written: c4c-hits" in done.stderr
    rows = list(csv.DictReader(Path("c4c-hits.csv").read_text().splitlines()))
    assert [float(row["start"]) for row in rows] == [hit["start"] for hit in plain]
    names = {Path(hit["path"]).stem for hit in plain}
    assert {path.stem for path in Path("c4c-hits").iterdir()} == names
    retrieve("--top-k", "2", "--export", "otio", "--out", "mine.otio")
    track = json.loads(Path("mine.otio").read_text())["tracks"]["children"][0]
    assert len(track["children"]) == 2


@pytest.mark.shows("retrieve", "--cut", "--exact")
def test_the_command_cuts_what_it_finds(retrieve: Callable[..., Any], tmp_path: Path) -> None:
    done = retrieve("--top-k", "1", "--window", "2", "--cut", str(tmp_path / "cuts"))
    (hit,) = map(json.loads, done.stdout.splitlines())
    (made,) = (tmp_path / "cuts").iterdir()
    assert f"written: {made}" in done.stderr
    retrieve("--top-k", "1", "--window", "2", "--cut", str(tmp_path / "own"), "--exact")
    (exact,) = (tmp_path / "own").iterdir()
    with av.open(str(exact)) as held:
        shown = list(held.decode(video=0))
    step = 1 / look(hit["path"]).rate
    assert len(shown) * step == pytest.approx(hit["end"] - hit["start"], abs=1.01 * step)
    assert look(str(made)).seconds >= look(str(exact)).seconds - step
    with pytest.raises(C4CError, match="pass --cut DIR too"):
        retrieve("--exact")
