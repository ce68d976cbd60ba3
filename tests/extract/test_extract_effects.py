"""What the options of ``c4c extract`` do, through the command itself, on four clips."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from c4c.cache.open import Cache
from c4c.cli.app import group
from c4c.core import presets
from c4c.core.errors import C4CError
from c4c.extract import part as work
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.tiny import WEIGHTS


@pytest.fixture(scope="module")
def here(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of videos, and captions that name two splits of one of them."""
    here = tmp_path_factory.mktemp("effects")
    videos = sorted((shapes_root / "videos").rglob("val-*.mp4"))[:4]
    (here / "data/videos").mkdir(parents=True)
    (here / "other").mkdir()
    for number, path in enumerate(videos):
        (here / "data/videos" / f"{number}.mp4").write_bytes(path.read_bytes())
    (here / "other/0.mp4").write_bytes(videos[3].read_bytes())
    rows = [(0, "a", "a red circle moves left"), (1, "a", "a star"), (2, "b", "a ring grows")]
    lines = [json.dumps({"video": f"{n}.mp4", "split": s, "caption": t}) for n, s, t in rows]
    (here / "data/captions.jsonl").write_text("\n".join(lines) + "\n")
    return here


Extract = Callable[..., Cache]


@pytest.fixture
def extract(here: Path, tmp_path: Path) -> Extract:
    """Extracts the folder with options, each time into a cache of its own."""
    count = 0

    def once(*options: str, code: int = 0, folder: Path | None = None) -> Cache:
        nonlocal count
        count += 1
        cache = folder or tmp_path / f"cache{count}"
        args = ["extract", "--dataset", "folder", "--root", str(here / "data"), "--cache"]
        args += [str(cache), "--backbone", "tiny", "--workers", "1", "--device", "cpu", *options]
        done = CliRunner().invoke(group, args, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return Cache.open(cache)

    return once


@pytest.fixture(scope="module")
def usual(here: Path) -> Cache:
    """The folder extracted without any option, in the place that is the default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        args = ["extract", "--dataset", "folder", "--root", "data", "--backbone", "tiny"]
        done = CliRunner().invoke(group, args, catch_exceptions=False)
        assert done.exit_code == 0
    return Cache.open(here / "c4c-cache/folder")


def rows(cache: Cache) -> list[np.ndarray]:
    """The features of each clip."""
    clips = cache.clips()
    return [np.asarray(clips.read(place)[0]) for place in range(len(clips))]


def captions(here: Path) -> tuple[str, ...]:
    return "--captions", str(here / "data/captions.jsonl")


@pytest.mark.shows("extract", "--dataset", "--root", "--cache")
def test_a_dataset_is_read_from_its_root_into_its_cache(usual: Cache, extract: Extract) -> None:
    own = extract()
    assert (usual.dataset, usual.splits) == ("folder", ("all",))
    assert usual.clips().ids == own.clips().ids == ("0", "1", "2", "3")
    assert all(map(np.array_equal, rows(usual), rows(own)))


@pytest.mark.shows("extract", "--videos")
def test_videos_may_lie_elsewhere(here: Path, extract: Extract, usual: Cache) -> None:
    own = extract("--videos", str(here / "other"))
    assert own.clips().ids == ("0",)
    assert np.array_equal(rows(own)[0], rows(usual)[3])


@pytest.mark.shows("extract", "--captions", "--split")
def test_captions_name_clips_and_splits(here: Path, extract: Extract) -> None:
    own = extract(*captions(here), "--split", "b", "--split", "a")
    assert set(own.splits) == {"a", "b", "all"}
    assert own.clips("all").ids == ("3",)  # captions annotate: what has none is found too
    assert own.captions("a").captions[0].text == "a red circle moves left"
    assert own.clips("b").ids == ("2.mp4",)
    assert own.clips("b").clips[0].path == str(here / "data/videos/2.mp4")
    assert extract(*captions(here)).splits == ("all",)


@pytest.mark.shows("extract", "--backbone", "--pretrained")
def test_the_backbone_is_the_one_named_with_the_weights_named(
    extract: Extract, usual: Cache
) -> None:
    own = extract("--backbone", "auto", "--pretrained", str(WEIGHTS))
    assert own.fingerprint.model == "auto"
    assert own.fingerprint.weights == str(WEIGHTS)
    assert own.fingerprint.sha256 == usual.fingerprint.sha256
    chance = extract("--pretrained", "none")
    assert chance.fingerprint.sha256 != usual.fingerprint.sha256
    assert not np.allclose(rows(chance)[0], rows(usual)[0], atol=0.1)


@pytest.mark.shows("extract", "--features")
def test_hidden_features_times_the_projection_are_the_final_ones(
    extract: Extract, usual: Cache
) -> None:
    hidden = extract("--features", "hidden")
    assert hidden.features == "hidden"
    projection = load_backbone("tiny").model.visual.proj.detach().numpy()
    for mine, theirs in zip(rows(hidden), rows(usual), strict=True):
        assert np.allclose(mine.astype(np.float32) @ projection, theirs, atol=0.05)


@pytest.mark.shows("extract", "--fps", "--max-frames", "--sampling")
@pytest.mark.parametrize(
    ("options", "times"),
    [
        ((), [0, 1, 2, 3, 4, 5, 6, 7]),
        (("--fps", "0.5"), [0, 2, 4, 6]),
        (("--fps", "2", "--max-frames", "3"), [0, 3.5, 7.5]),
        (("--max-frames", "3", "--sampling", "head"), [0, 1, 2]),
        (("--max-frames", "3", "--sampling", "tail"), [5, 6, 7]),
    ],
)
def test_which_frames_are_taken(
    options: tuple[str, ...], times: list[float], extract: Extract
) -> None:
    clips = extract(*options).clips()
    for place in range(len(clips)):
        assert clips.read(place)[1].tolist() == times


@pytest.mark.shows("extract", "--max-words")
def test_captions_are_cut_at_so_many_tokens(here: Path, extract: Extract) -> None:
    backbone = load_backbone("tiny")
    own = extract(*captions(here), "--max-words", "4").captions()
    for text, found in zip([one.text for one in own.captions], own.batch([0, 1, 2]), strict=True):
        wanted = backbone.encode_text(backbone.tokenize([text], 4))[0]
        assert torch.allclose(found, wanted.detach(), atol=0.02)
    whole = extract(*captions(here)).captions().batch([0])
    assert not torch.allclose(whole, own.batch([0]), atol=0.02)


@pytest.mark.shows("extract", "--decoder")
def test_the_other_decoder_is_recorded_and_gives_the_same_frames(
    extract: Extract, usual: Cache
) -> None:
    pytest.importorskip("decord")
    own = extract("--decoder", "decord")
    assert own.fingerprint.decoder.startswith("decord")
    assert all(map(np.array_equal, rows(own), rows(usual)))


@pytest.mark.shows("extract", "--workers", "--deadline")
def test_so_many_processes_decode_and_have_so_long(
    extract: Extract, decoders: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    deadlines: list[float] = []  # what comes of them is tested with decoders that hang
    decode = work.decode_pieces

    def counting(*args: Any) -> Any:
        deadlines.append(args[3])
        for part in decode(*args):
            counts.append(len(decoders()))
            yield part

    monkeypatch.setattr(work, "decode_pieces", counting)
    for number in (1, 2):
        counts.clear()
        extract("--workers", str(number), "--deadline", str(60 * number))
        assert max(counts) == number
    assert deadlines == [60, 120]


@pytest.mark.shows("extract", "--shard-clips", "--slice")
def test_slices_together_are_the_whole(extract: Extract, tmp_path: Path, usual: Cache) -> None:
    """Parts are counted from 0; whoever runs all of them has every clip."""
    own = tmp_path / "sliced"
    shards = []
    for part in ("0/2", "1/2"):
        extract("--shard-clips", "1", "--slice", part, folder=own)
        shards.append(len(list((own / "shards/all/clips").glob("*.h5"))))
    assert shards == [2, 4]
    assert all(map(np.array_equal, rows(Cache.open(own)), rows(usual)))
    with pytest.raises(C4CError, match="counted from 0: 0/2 to 1/2"):
        extract("--slice", "2/2", folder=own)


@pytest.mark.shows("extract", "--strict")
def test_strict_refuses_what_is_incomplete(here: Path, extract: Extract, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("video,caption\n0.mp4,a\ngone.mp4,b\n")
    own = ("--captions", str(tmp_path / "list.csv"))
    assert extract(*own).clips().missing == ("gone.mp4",)
    with pytest.raises(C4CError, match="1 videos missing"):
        extract(*own, "--strict")


@pytest.mark.shows("extract", "--device")
def test_a_device_is_tried_before_any_work(
    extract: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # so cuda is the default
    assert len(extract().clips()) == 4  # with --device cpu, as all of these
    with pytest.raises(C4CError, match="--device cuda:77 cannot be used"):
        extract("--device", "cuda:77", folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.shows("extract", "--preset")
def test_a_preset_fills_what_was_not_given(
    extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"extract": {"max_frames": 2, "fps": 0.25}}
    monkeypatch.setattr(presets, "load_presets", lambda: {"mine": {"any": own, "folder": {}}})
    found = extract("--preset", "mine", "--fps", "2").fingerprint.sampling
    assert found.startswith("fps=2 max=2 ")


@pytest.mark.shows("extract", "--engine", "--address")
def test_a_cluster_that_does_not_answer_is_one_line(extract: Extract, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(C4CError, match=r"^No Ray cluster at 127.0.0.1:9: [^\n]*$"):
        extract("--engine", "ray", "--address", "127.0.0.1:9", folder=tmp_path / "none")
    with pytest.raises(C4CError, match="--address is of a Ray cluster"):
        extract("--address", "127.0.0.1:9", folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def long_gop(here: Path, tmp_path: Path) -> Path:
    """A folder with a clip of 8 seconds whose only key frame is its first one."""
    (tmp_path / "long").mkdir()
    source, target = here / "data/videos/0.mp4", tmp_path / "long/0.mp4"
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream: Any = new.add_stream("libx264", rate=4, options={"g": "99", "sc_threshold": "0"})
        stream.width, stream.height = old.streams.video[0].width, old.streams.video[0].height
        for frame in old.decode(video=0):
            image = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            new.mux(stream.encode(image))
        new.mux(stream.encode())
    return tmp_path / "long"


@pytest.mark.shows("extract", "--frame-mode", "--max-gap")
def test_frames_are_taken_where_the_mode_says(extract: Extract, long_gop: Path) -> None:
    root = ("--root", str(long_gop))
    exact = extract(*root)
    assert exact.fingerprint.frames == extract(*root, "--frame-mode", "exact").fingerprint.frames
    for options, recorded, times in (
        (("--frame-mode", "key"), "key max-gap=4", [0, 4]),
        (("--frame-mode", "key", "--max-gap", "2"), "key max-gap=2", [0, 2, 4, 6]),
    ):
        own = extract(*root, *options)
        assert own.fingerprint.frames == recorded
        assert own.owner.identity != exact.owner.identity
        assert own.clips().read(0)[1].tolist() == times
        assert np.allclose(rows(own)[0], rows(exact)[0][times], atol=0.02)
        with pytest.raises(C4CError, match=f"frames: near, {recorded}"):
            extract(*root, "--frame-mode", "near", folder=own.path)
    near = extract(*root, "--frame-mode", "near").clips().read(0)[1]
    assert np.abs(near - np.arange(8)).max() <= 0.5


def test_a_gap_or_decoder_that_a_mode_does_not_have_is_refused(extract: Extract) -> None:
    with pytest.raises(C4CError, match="--max-gap is of --frame-mode key"):
        extract("--frame-mode", "near", "--max-gap", "2")
    with pytest.raises(C4CError, match="--frame-mode near needs --decoder pyav"):
        extract("--frame-mode", "near", "--decoder", "decord")
