"""The HTTP API answers as the searcher does, and media come by id alone."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from c4c.cache.open import Cache
from c4c.retrieval.asking import Ask
from c4c.retrieval.searcher import Searcher

QUERY = "a red circle moves left then a white cross grows"


@pytest.fixture(scope="module")
def searcher(shapes_cache: Path) -> Searcher:
    return Searcher(shapes_cache, device="cpu")


def test_a_search_gives_the_searchers_hits(server: TestClient, searcher: Searcher) -> None:
    reply = server.get("/api/search", params={"q": QUERY, "k": 4}).json()
    expected = searcher(QUERY, k=4)
    assert [hit["clip"] for hit in reply["hits"]] == [hit.clip for hit in expected]
    assert [hit["start"] for hit in reply["hits"]] == [hit.start for hit in expected]
    assert [hit["confidence"] for hit in reply["hits"]] == [hit.confidence for hit in expected]
    assert not reply["nothing_fits"]


def test_a_search_takes_parts_weights_and_words_to_avoid(
    server: TestClient, searcher: Searcher
) -> None:
    asked = {"q": ["a red circle", "a white cross"], "weight": [1, 0.5], "not": "a blue square"}
    reply = server.get("/api/search", params=asked).json()
    ask = Ask(("a red circle", "a white cross"), (1.0, 0.5), ("a blue square",))
    assert [hit["clip"] for hit in reply["hits"]] == [hit.clip for hit in searcher(ask)]
    assert reply["query"] == "a red circle + 0.5 a white cross - a blue square"


def test_more_like_a_second_of_a_video_asks_by_its_path(
    server: TestClient, searcher: Searcher, first: dict[str, str]
) -> None:
    hits = server.get("/api/search", params={"like": first["id"], "at": 2, "k": 3}).json()["hits"]
    expected = searcher(Ask(like=f"{first['path']}@2"), k=3)
    assert [hit["clip"] for hit in hits] == [hit.clip for hit in expected]


def test_that_nothing_fits_is_said(server: TestClient) -> None:
    reply = server.get("/api/search", params={"q": QUERY, "path": "nowhere*"}).json()
    assert reply["hits"] == [] and reply["nothing_fits"]


def test_filters_leave_clips_out(server: TestClient, first: dict[str, str]) -> None:
    asked = {"q": QUERY, "path": first["name"], "k": 20}
    hits = server.get("/api/search", params=asked).json()["hits"]
    assert {hit["video"] for hit in hits} == {first["id"]}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/search", "needs a sentence"),
        ("/api/search?q=x&k=0", "k: "),
        ("/api/search?q=x&k=101", "k: "),
        ("/api/search?q=%20", "needs words"),
        ("/api/search?q=x&weight=1&weight=2", "2 weights for 1 sentences"),
        ("/api/search?q=x&after=2024-13-40", "after: "),
        ("/api/search?q=x&colour=red", "colour"),
        ("/api/search?q=" + "x" * 1001, "q.0: "),
        ("/api/search?like=../../etc/passwd", "like: "),
        ("/api/videos/..%2f..%2fetc%2fpasswd", "Not Found"),
        ("/api/videos/" + "0" * 24, "no video of that id"),
        ("/api/videos/" + "0" * 24 + "/file", "no video of that id"),
        ("/api/videos/passwd/file", "name: "),
        ("/api/search?q=x&gallery=other", "no gallery of that name"),
    ],
)
def test_a_wrong_request_is_refused_in_words(server: TestClient, path: str, words: str) -> None:
    reply = server.get(path)
    assert reply.status_code in (404, 422)
    assert words in reply.json()["error"]


def test_suggestions_are_captions_that_begin_with_the_words(
    server: TestClient, captions: list[str]
) -> None:
    found = server.get("/api/suggest", params={"q": "A red "}).json()["captions"]
    begin = sorted({text for text in captions if text.startswith("a red ")})
    assert found[: len(begin)] == begin[:8] and len(found) <= 8


def test_a_video_tells_its_clips_captions_and_format(
    server: TestClient, first: dict[str, str], shapes_cache: Path
) -> None:
    about = server.get(f"/api/videos/{first['id']}").json()
    assert about["played"] and about["codec"] == "h264" and about["seconds"] == pytest.approx(8)
    manifests = Cache.open(shapes_cache).manifests.values()
    own = [
        one.text for m in manifests for one in m.captions if one.clip_id == about["clips"][0]["id"]
    ]
    assert about["clips"][0]["captions"] == own and own


def test_a_time_line_is_the_searchers(
    server: TestClient, searcher: Searcher, first: dict[str, str]
) -> None:
    reply = server.get(f"/api/videos/{first['id']}/scores", params={"q": QUERY}).json()
    expected = searcher.frame_scores(QUERY, first["path"])
    assert reply["seconds"] == [second for second, _ in expected]
    assert reply["scores"] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_a_thumbnail_shows_the_frame_at_that_second(
    server: TestClient, first: dict[str, str]
) -> None:
    from c4c.core.records import Clip
    from c4c.extract.video.decode import decode_clip
    from c4c.extract.video.request import Request

    reply = server.get(f"/api/videos/{first['id']}/thumbnail", params={"at": 3})
    assert reply.headers["content-type"] == "image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGB"), np.float64)
    frames = decode_clip(Clip("x", first["path"]), Request(fps=1.0)).frames.pixels
    errors = [np.abs(picture - frame).mean() for frame in frames]
    assert int(np.argmin(errors)) == 3 and min(errors) < 12


def test_a_range_of_a_video_is_its_bytes(server: TestClient, first: dict[str, str]) -> None:
    where, data = f"/api/videos/{first['id']}/file", Path(first["path"]).read_bytes()
    assert server.get(where).content == data
    part = server.get(where, headers={"range": "bytes=10-99"})
    assert part.status_code == 206 and part.content == data[10:100]
    assert part.headers["content-range"] == f"bytes 10-99/{len(data)}"
    assert server.get(where, headers={"range": "bytes=-7"}).content == data[-7:]
    beyond = server.get(where, headers={"range": f"bytes={len(data)}-"})
    assert beyond.status_code == 416


def test_what_is_no_video_is_not_handed_out(
    server: TestClient, first: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache from elsewhere may name any file of this machine."""
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0" * 100)
    served = server.app._app.state.served  # type: ignore[attr-defined]
    video = served.library.video(first["id"])[1]
    for path in (str(secret), "/dev/zero", str(tmp_path), "/no/such/file"):
        monkeypatch.setattr(video, "path", path)
        for end in ("file", "preview"):
            reply = server.get(f"/api/videos/{first['id']}/{end}")
            assert reply.status_code == 422 and "root" not in reply.text
        assert server.get(f"/api/videos/{first['id']}/thumbnail").status_code == 422


def test_a_preview_is_mp4_that_browsers_play(
    server: TestClient, tmp_path: Path, first: dict[str, str]
) -> None:
    from c4c.core.records import Clip
    from c4c.extract.video.decode import decode_clip
    from c4c.extract.video.request import Request

    reply = server.get(f"/api/videos/{first['id']}/preview", params={"start": 2, "seconds": 3})
    assert reply.headers["content-type"] == "video/mp4"
    (tmp_path / "part.mp4").write_bytes(reply.content)
    part = decode_clip(Clip("x", str(tmp_path / "part.mp4")), Request(fps=1.0)).frames.pixels
    whole = decode_clip(Clip("x", first["path"]), Request(fps=1.0)).frames.pixels
    assert len(part) == 3
    for second in range(3):
        errors = [np.abs(part[second].astype(float) - frame).mean() for frame in whole]
        assert min(errors) == errors[second + 2]


def test_the_library_counts_what_the_cache_holds(server: TestClient, shapes_cache: Path) -> None:
    (gallery,) = server.get("/api/library").json()["galleries"]
    assert (gallery["videos"], gallery["clips"], gallery["failed"]) == (64, 64, 0)
    assert gallery["shards_written"] == gallery["shards_planned"] > 0
    assert gallery["backbone"] == "tiny" and gallery["path"] == str(shapes_cache)


def test_a_picture_finds_what_looks_like_it(
    server: TestClient, searcher: Searcher, first: dict[str, str]
) -> None:
    from c4c.core.records import Clip
    from c4c.extract.video.decode import decode_clip
    from c4c.extract.video.request import Request

    pixels = decode_clip(Clip("x", first["path"]), Request(fps=1.0)).frames.pixels[4]
    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, "PNG")
    reply = server.post("/api/search/image?k=5", content=memory.getvalue()).json()
    expected = searcher.like_picture(pixels, 5)
    assert [hit["clip"] for hit in reply["hits"]] == [hit.clip for hit in expected]
    assert reply["hits"][0]["confidence"] is None and not reply["nothing_fits"]


def test_a_body_that_is_no_picture_is_refused(server: TestClient) -> None:
    reply = server.post("/api/search/image", content=b"\x89PNG and then nothing")
    assert reply.status_code == 422 and reply.json()["error"].startswith("Cannot read the picture")
    assert server.post("/api/search/image").status_code == 422
