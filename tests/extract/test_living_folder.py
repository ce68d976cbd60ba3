"""A folder that lives: added to, moved, renamed, thinned, stopped, and searched all the while."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from c4c.cache.findings import DAMAGED
from c4c.cache.inspect import damage, describe
from c4c.cache.manifests import load_manifests
from c4c.cache.open import Cache
from c4c.cache.prune import prune
from c4c.cli.app import group
from c4c.core.errors import C4CError, Interrupted
from c4c.extract import part as work
from c4c.extract.config import ExtractConfig, ExtractResult
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract
from c4c.extract.video.pool import Ended
from c4c.retrieval.searcher import Searcher
from c4c.serve.thumbnails import Thumbnails

Features = dict[str, bytes]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fourteen small videos, all different."""
    root = tmp_path_factory.mktemp("living") / "shapes"
    make_shapes(root, Recipe(seed=6, train=14, val=0, test=0))
    return sorted((root / "videos").rglob("*.mp4"))[:14]


@pytest.fixture
def folder(tmp_path: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four of them, ``0.mp4`` to ``3.mp4``; work is done beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "A").mkdir()
    for number in range(4):
        shutil.copy(videos[number], tmp_path / f"A/{number}.mp4")
    return tmp_path / "A"


class Extraction:
    """Extracts folders into one cache, here; counts what is decoded, and stops where asked.

    Attributes:
        decoded: paths of the clips that were decoded to their end, of all runs.
    """

    def __init__(self) -> None:
        self.decoded: list[str] = []
        self.stop_after: int | None = None
        self._decode = work.decode_pieces

    def pieces(self, clips: Any, *args: Any) -> Iterator[Any]:
        ended = 0
        for part in self._decode(clips, *args):
            if isinstance(part, Ended):
                self.decoded.append(clips[ended].path)
                ended += 1
            yield part
            if ended == self.stop_after:
                os.kill(os.getpid(), signal.SIGINT)
                self.stop_after = None

    def __call__(self, root: Path, cache: str = "cache", **more: Any) -> ExtractResult:
        given = {"backbone": "tiny", "workers": 1, "device": "cpu", "batch": 16, **more}
        return run_extract(ExtractConfig(dataset="folder", root=root, cache=Path(cache), **given))

    def fresh(self, root: Path, **more: Any) -> list[str]:
        """Names of the files that an extraction decodes."""
        before = len(self.decoded)
        assert self(root, **more).complete
        return sorted(Path(path).name for path in self.decoded[before:])


@pytest.fixture
def extract(monkeypatch: pytest.MonkeyPatch) -> Extraction:
    found = Extraction()
    monkeypatch.setattr(work, "decode_pieces", found.pieces)
    return found


def features(cache: str = "cache") -> Features:
    clips = Cache.open(cache).clips()
    return {name: clips.read(place)[0].tobytes() for place, name in enumerate(clips.ids)}


def shards(cache: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(cache, "shards").rglob("*.h5")}


@pytest.mark.parametrize("precise", [{}, {"shard_clips": 3}], ids=["a shard", "shards"])
def test_stopped_again_and_again_it_ends_with_the_bytes_of_an_undisturbed_run(
    folder: Path, videos: list[Path], extract: Extraction, precise: dict[str, Any]
) -> None:
    for number in range(4, 7):
        shutil.copy(videos[number], folder / f"{number}.mp4")
    extract(folder, "undisturbed", **precise)
    extract.decoded.clear()
    for after in (1, 2, 1):
        extract.stop_after = after
        with pytest.raises(Interrupted, match="what was whole is kept"):
            extract(folder, **precise)
        there = Cache.open("cache").clips(incomplete=True)
        assert len(there) + len(there.pending) == 7
        assert 0 < len(there) < 7
    done = len(extract.decoded)
    assert extract(folder, **precise).clips == 7
    assert len(extract.decoded) - done == 7 - len(there)
    assert shards("cache") == shards("undisturbed")
    assert not list(Path("cache/pieces").rglob("*.h5"))
    assert list(damage(Path("cache"))) == []


def test_ctrl_c_waits_for_no_slow_clip_and_keeps_what_is_whole(
    folder: Path, extract: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(clips: Any, *args: Any) -> Iterator[Any]:
        yield from extract.pieces(clips[:2], *args)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        while time.monotonic() - began < 20:  # the third clip, of which nothing comes
            args[-1]()
            time.sleep(0.01)

    with monkeypatch.context() as stuck:
        stuck.setattr(work, "decode_pieces", slow)
        with pytest.raises(Interrupted, match="what was whole is kept"):
            extract(folder)
    assert len(Cache.open("cache").clips(incomplete=True)) == 2
    assert len(extract.fresh(folder)) == 2


def test_whole_clips_are_kept_every_minute(
    folder: Path, extract: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute of no length: every clip is kept at once, and a killed run loses no whole one."""
    monkeypatch.setattr(work, "_EVERY", 0.0)
    seen: list[int] = []
    inner = extract.pieces

    def watched(*args: Any) -> Iterator[Any]:
        for part in inner(*args):
            seen.append(len(list(Path("cache/pieces").rglob("*.h5"))))
            yield part

    monkeypatch.setattr(work, "decode_pieces", watched)
    extract(folder)
    assert max(seen) == 3  # after the last one the shard itself comes
    assert len(features()) == 4


def test_pieces_that_a_kill_left_beside_their_shard_are_removed(
    folder: Path, extract: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_EVERY", 0.0)
    with monkeypatch.context() as killed:  # after the shard's commit, before the pieces go
        killed.setattr(work, "remove_pieces", lambda folder: None)
        extract(folder)
    assert list(Path("cache/pieces").rglob("*.h5"))
    assert extract.fresh(folder) == []
    assert not list(Path("cache/pieces").rglob("*.h5"))


def test_verify_looks_at_pieces_and_repair_sets_damaged_ones_aside(
    folder: Path, extract: Extraction
) -> None:
    extract.stop_after = 2
    with pytest.raises(Interrupted):
        extract(folder)
    (piece,) = Path("cache/pieces").rglob("*.h5")
    data = bytearray(piece.read_bytes())
    data[len(data) // 2] ^= 1
    piece.write_bytes(data)
    told = [one for one in damage(Path("cache")) if piece.name in one]
    assert [one.code for one in told] == [DAMAGED]
    assert any("set aside" in one for one in damage(Path("cache"), repair=True))
    assert not piece.exists()
    assert len(extract.fresh(folder)) == 4


def test_a_search_answers_while_an_update_is_stopped_and_figures_are_refused(
    folder: Path, videos: list[Path], extract: Extraction, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(folder)
    for number in range(4, 7):
        shutil.copy(videos[number], folder / f"{number}.mp4")
    extract.stop_after = 1
    with pytest.raises(Interrupted):
        extract(folder)
    capsys.readouterr()
    hits = Searcher("cache", device="cpu")("a red circle")
    assert len(hits) >= 4
    assert all(os.path.isabs(hit.path) and os.path.exists(hit.path) for hit in hits)
    pending = Cache.open("cache").clips(incomplete=True).pending
    assert f"{len(pending)} of 7 clips are not extracted yet" in capsys.readouterr().err
    assert describe(Path("cache"))["splits"]["all"]["pending"] == len(pending)
    with pytest.raises(C4CError, match="1 of 2 clips shards of split 'all' are missing"):
        Cache.open("cache").clips("all")


def test_a_file_goes_on_under_its_id_wherever_it_lies_and_however_it_is_called(
    folder: Path, tmp_path: Path, extract: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(folder)
    before = features()
    link = tmp_path / "link"
    link.symlink_to("A")
    for spelling in (Path("A"), link, folder / ".." / "A", tmp_path / "link/../A"):
        assert extract.fresh(spelling) == []
    monkeypatch.chdir(folder)
    assert extract.fresh(Path("."), cache="../cache") == []
    monkeypatch.chdir(tmp_path)
    assert len(load_manifests(Path("cache"))["all"].clips) == 4
    assert load_manifests(Path("cache"))["all"].number == 1  # nothing has changed
    os.rename(folder / "0.mp4", folder / "zero.mp4")
    (folder / "sub").mkdir()
    os.rename(folder / "1.mp4", folder / "sub/0.mp4")  # under the name of another one before
    assert extract.fresh(folder) == []
    os.rename(folder, tmp_path / "B")
    assert extract.fresh(tmp_path / "B") == []
    assert features() == before
    paths = {clip.id: clip.path for clip in Cache.open("cache").clips().clips}
    assert paths["0"] == str(tmp_path / "B/zero.mp4")
    assert paths["1"] == str(tmp_path / "B/sub/0.mp4")


def test_a_copy_of_a_file_has_its_features_and_a_lookalike_has_not(
    folder: Path, videos: list[Path], extract: Extraction
) -> None:
    """The lookalike has the same size, head and tail: only the whole file tells them apart."""
    extract(folder)
    shutil.copy(folder / "2.mp4", folder / "copy.mp4")
    assert extract.fresh(folder) == []
    found = features()
    assert found["copy"] == found["2"]
    shutil.copy(videos[5], folder / "new.mp4")
    shutil.copy(videos[5], folder / "twin.mp4")
    assert len(extract.fresh(folder)) == 1
    found = features()
    assert found["new"] == found["twin"]
    content = bytearray((folder / "3.mp4").read_bytes())
    assert len(content) > 8192 + 64
    middle = len(content) // 2
    content[middle : middle + 32] = bytes(32)
    (folder / "like 3.mp4").write_bytes(content)
    assert extract.fresh(folder) == ["like 3.mp4"]
    assert features()["3"] == found["3"]


def test_a_second_folder_is_added_and_its_namesakes_take_no_ids(
    folder: Path, tmp_path: Path, videos: list[Path], extract: Extraction
) -> None:
    extract(folder)
    before = features()
    (tmp_path / "C").mkdir()
    shutil.copy(videos[6], tmp_path / "C/2.mp4")
    shutil.copy(videos[7], tmp_path / "C/other.mp4")
    assert extract.fresh(tmp_path / "C") == ["2.mp4", "other.mp4"]
    found = features()
    assert set(found) == {"0", "1", "2", "3", "C/2.mp4", "other"}
    assert {name: found[name] for name in before} == before
    assert extract.fresh(folder) == extract.fresh(tmp_path / "C") == []
    assert features() == found


def test_only_prune_removes_clips(
    folder: Path, tmp_path: Path, extract: Extraction, videos: list[Path]
) -> None:
    extract(folder)
    before = features()
    (folder / "1.mp4").unlink()
    assert extract.fresh(folder) == []
    assert features() == before
    done = CliRunner().invoke(group, ["cache", "prune", "cache"], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"1: {folder}/1.mp4" in done.output
    assert "1 clips removed, 3 are left" in done.output
    assert set(features()) == {"0", "2", "3"}
    assert list(damage(Path("cache"))) == []
    os.rename(folder, tmp_path / "away")
    with pytest.raises(C4CError, match="None of the 3 videos of cache exists"):
        prune(Path("cache"), forget=False)
    assert set(features()) == {"0", "2", "3"}


@pytest.mark.shows("cache prune", "--forget")
def test_what_is_to_be_forgotten_leaves_the_shards_and_the_pictures_too(
    folder: Path, tmp_path: Path, extract: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    pictures = Thumbnails(1)
    shown = [pictures.at(f"{folder}/{name}.mp4", 1.0, 320).result(60) for name in (0, 1)]
    pictures.close()
    extract(folder)
    before = features()
    (folder / "1.mp4").unlink()
    prune(Path("cache"), forget=False)
    row = before["1"][:64]
    assert any(row in data for data in shards("cache").values())
    with Searcher("cache", device="cpu") as searcher:
        assert len(searcher.gallery) == 3
    galleries = list(Path("cache/gallery").rglob("piece-*"))
    assert galleries
    other = tmp_path / "own/c4c/gallery/of-another-cache/key/piece-0.safetensors"
    other.parent.mkdir(parents=True)
    other.touch()
    with monkeypatch.context() as unwritable, Searcher("cache", device="cpu", hop=2.0) as searcher:
        unwritable.setattr("c4c.retrieval.gallery_refresh.os.access", lambda *_: False)
        galleries += searcher.gallery.folder.glob("piece-*")
    assert galleries[-1].is_relative_to(tmp_path / "own")
    done = CliRunner().invoke(group, ["cache", "prune", "cache", "--forget"])
    assert done.exit_code == 0
    assert "MB freed" in done.output
    assert not any(row in data for data in shards("cache").values())
    assert features() == {name: rows for name, rows in before.items() if name != "1"}
    assert len(list(Path("cache/manifests").iterdir())) == 1
    assert not any(path.exists() for path in galleries)
    assert other.exists()
    assert [path.exists() for path in shown] == [True, False]
    assert list(damage(Path("cache"))) == []


@pytest.mark.shows("extract", "--only-captioned")
def test_captions_annotate_and_only_restrict_when_asked(
    folder: Path, extract: Extraction, tmp_path: Path
) -> None:
    (tmp_path / "c.csv").write_text("video,caption\n1.mp4,a red circle\n3,a star\n")
    captions = {"captions": tmp_path / "c.csv"}
    extract(folder)
    assert extract.fresh(folder, **captions) == []
    cache = Cache.open("cache")
    assert cache.clips().ids == ("0", "1", "2", "3")
    assert cache.captions().clip_ids == ("1", "3")
    assert cache.clips("all", captioned=True).ids == ("1", "3")
    assert extract.fresh(folder) == []  # without the option, they stay
    assert len(Cache.open("cache").captions()) == 2
    extract(folder, "first", **captions)
    assert len(Cache.open("first").clips()) == 4
    extract(folder, "few", **captions, only_captioned=True)
    assert Cache.open("few").clips().ids == ("1.mp4", "3")


def test_at_random_moments_nothing_is_decoded_twice_nothing_lost_and_every_search_answers(
    folder: Path, videos: list[Path], extract: Extraction, tmp_path: Path
) -> None:
    """Files come, go, move and are renamed between runs that are stopped at random."""
    draw = random.Random(1)
    extract(folder)
    waiting = list(videos[4:])
    for step in range(20):
        here = sorted(folder.rglob("*.mp4"))
        kind = step % 4
        if kind in (0, 2) and waiting:
            shutil.copy(waiting.pop(), folder / f"new {step}.mp4")
        elif kind == 1:
            draw.choice(here).rename(folder / f"renamed {step}.mp4")
        elif kind == 3:
            moved = folder.with_name(f"moved {step}")
            folder.rename(moved)
            folder = moved
        if step == 9:
            draw.choice(sorted(folder.rglob("*.mp4"))).unlink()
        extract.stop_after = draw.choice([None, 1, 1, 2])
        with contextlib.suppress(Interrupted):
            extract(folder)
        extract.stop_after = None
        view = Cache.open("cache").clips(incomplete=True)
        assert len(view) >= 4
        assert all(len(view.read(place)[0]) for place in range(len(view)))
    extract(folder)
    found = features()
    assert len(set(found.values())) == len(found) == 14
    assert len(extract.decoded) == 14
    assert list(damage(Path("cache"))) == []


Shown = Callable[..., list[str]]


@pytest.fixture
def names() -> Shown:
    """Gives the clips of an extraction through the command, with a folder as its argument."""

    def shown(*options: str) -> list[str]:
        shutil.rmtree("c4c-cache", ignore_errors=True)
        args = ["extract", *options, "--backbone", "tiny", "--workers", "1", "--device", "cpu"]
        done = CliRunner().invoke(group, args, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return list(Cache.open("c4c-cache/folder").clips().ids)

    return shown


@pytest.mark.shows("extract", "--include", "--exclude")
def test_a_folder_is_named_alone_and_patterns_choose_in_it(folder: Path, names: Shown) -> None:
    (folder / "old").mkdir()
    (folder / "2.mp4").rename(folder / "old/2.mp4")
    assert names("A") == ["0", "1", "2", "3"]
    assert names("A", "--exclude", "old", "--exclude", "3*") == ["0", "1"]
    assert names("A", "--include", "[01].mp4", "--include", "old/*") == ["0", "1", "2"]
    with pytest.raises(C4CError, match="taken as a folder of videos"):
        names("A", "--dataset", "msvd")
    with pytest.raises(C4CError, match="Pass a folder of videos, c4c extract DIR"):
        names()
