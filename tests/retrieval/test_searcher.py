"""``Searcher``: what a program holds to ask a cache."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.extract.config import ExtractConfig
from c4c.extract.pipeline import run_extract
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import Request
from c4c.retrieval.asking import Ask
from c4c.retrieval.filters import Filter
from c4c.retrieval.searcher import Searcher
from c4c.retrieval.session import RetrieveConfig

QUERY = "a red circle moves left then a white cross grows"
OTHER = "a blue square grows then a green triangle moves up"


@pytest.fixture(scope="module")
def searcher(shapes_cache: Path) -> Searcher:
    return Searcher(shapes_cache, device="cpu")


def test_one_question_gives_its_best_answers(searcher: Searcher, shapes_cache: Path) -> None:
    hits = searcher(QUERY, k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    (own,) = Searcher.of(RetrieveConfig(cache=shapes_cache, device="cpu")).stream([QUERY], 3)
    assert hits == own
    assert len(searcher(QUERY)) == 10


def test_a_standing_gallery_answers_without_the_plans_of_its_cache(
    searcher: Searcher, shapes_cache: Path
) -> None:
    assert searcher.gallery.state.complete
    again = Searcher(shapes_cache, device="cpu")
    assert [hit.clip for hit in again(QUERY)] == [hit.clip for hit in searcher(QUERY)]
    assert "manifests" not in vars(again.cache)  # reading them takes time for each clip


def test_many_questions_are_answered_in_their_order(searcher: Searcher) -> None:
    answers = list(searcher.stream(iter([OTHER, QUERY]), k=2))
    assert [[hit.query for hit in hits] for hits in answers] == [[OTHER] * 2, [QUERY] * 2]
    assert [hit.clip for hit in answers[1]] == [hit.clip for hit in searcher(QUERY, k=2)]


def test_threads_may_ask_at_once(searcher: Searcher) -> None:
    expected = [[hit.clip for hit in searcher(query)] for query in (QUERY, OTHER)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(searcher, [QUERY, OTHER] * 8))
    assert [[hit.clip for hit in hits] for hits in answers] == expected * 8


def test_each_frame_of_a_video_has_its_cosine(searcher: Searcher, shapes_cache: Path) -> None:
    clips = Cache.open(shapes_cache).clips("val")
    features, times = clips.read(3)
    text = searcher.encode([QUERY])[0].numpy().astype(np.float64)
    unit = features / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    scores = searcher.frame_scores(QUERY, clips.clips[3].path)
    assert [second for second, _ in scores] == times.tolist()
    cosines = [score for _, score in scores]
    assert cosines == pytest.approx((unit @ (text / np.linalg.norm(text))).tolist(), abs=2e-3)
    with pytest.raises(C4CError, match="No clip of nowhere.mp4"):
        searcher.frame_scores(QUERY, "nowhere.mp4")


def test_a_frame_as_a_picture_finds_its_own_moment(searcher: Searcher, shapes_cache: Path) -> None:
    clip = Cache.open(shapes_cache).clips("val").clips[5]
    pixels = decode_clip(clip, Request(fps=1.0)).frames.pixels[2]
    hits = searcher.like_picture(pixels, 5)
    own = searcher(Ask(like=f"{clip.path}@2"), 5)  # its features are of half precision
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in own], abs=0.02)
    assert clip.id in {hit.clip for hit in hits} and hits[0].score > 0.9
    assert {hit.confidence for hit in hits} == {None}
    (only,) = searcher.like_picture(pixels, where=Filter(path=clip.path), per_video=1)
    assert only.clip == clip.id


def test_it_takes_up_what_a_cache_has_gained(shapes_root: Path, tmp_path: Path) -> None:
    videos = sorted((shapes_root / "videos").glob("test-*.mp4"))[:3]
    root = tmp_path / "videos"
    root.mkdir()

    def extract(some: list[Path]) -> None:
        for video in some:
            shutil.copy(video, root)
        config = ExtractConfig(
            dataset="folder", root=root, cache=tmp_path / "cache", backbone="tiny", workers=1
        )
        run_extract(config)

    extract(videos[:2])
    with Searcher(tmp_path / "cache", device="cpu") as searcher:
        assert len({hit.path for hit in searcher(QUERY)}) == 2
        assert not searcher.refresh()
        extract(videos[2:])
        assert len({hit.path for hit in searcher(QUERY)}) == 2  # not looked at yet
        assert searcher.refresh()
        assert len({hit.path for hit in searcher(QUERY)}) == 3


def test_it_says_what_it_holds_in_a_line(shapes_cache: Path) -> None:
    with Searcher(Cache.open(shapes_cache), split="val", device="cpu") as searcher:
        assert repr(searcher) == f"Searcher({shapes_cache}, split 'val': meanP)"
        clips = {hit.clip for hit in searcher(QUERY, k=64)}
        assert repr(searcher).endswith(
            f"clips [64, 128], windows [{searcher.gallery.windows}, 128])"
        )
    assert clips == set(Cache.open(shapes_cache).clips("val").ids)


def test_a_search_without_a_cache_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match="is not a feature cache"):
        Searcher(tmp_path)


def test_a_file_outside_of_the_cache_is_like_its_own_clip(
    searcher: Searcher, shapes_cache: Path, tmp_path: Path
) -> None:
    clip = Cache.open(shapes_cache).clips("val").clips[5]
    copy = str(shutil.copy(clip.path, tmp_path / "other@1.mp4"))
    for second in ("", "@2"):
        own, same = (searcher.vector_of(path + second) for path in (clip.path, copy))
        assert float(own @ same) > 0.999
    pixels = decode_clip(clip, Request(fps=1.0)).frames.pixels[2]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    own = searcher.vector_of(f"{clip.path}@2")
    assert float(own @ searcher.vector_of(str(tmp_path / "a.png"))) > 0.999
    for like, words in (("gone.mp4", "no such file"), (f"{copy}@60", "--like: .*60|begins at")):
        with pytest.raises(C4CError, match=words):
            searcher.vector_of(like)
