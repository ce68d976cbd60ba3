"""``Client`` gives what the searcher gives, over a real connection."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from c4c.core.errors import C4CError
from c4c.retrieval.asking import Ask
from c4c.retrieval.filters import Filter
from c4c.retrieval.searcher import Searcher
from c4c.retrieval.wanted import Wanted
from c4c.serve.client import Client

QUERY = "a red circle moves left then a white cross grows"


@pytest.fixture(scope="module")
def searcher(shapes_cache: Path) -> Searcher:
    return Searcher(shapes_cache, device="cpu")


def test_it_gives_the_searchers_hits(address: str, searcher: Searcher) -> None:
    with Client(address) as client:
        assert client(QUERY, k=3) == searcher(QUERY, k=3)
        narrow = Filter(path="val-*", longer=1.0)
        assert client(QUERY, where=narrow) == searcher(QUERY, where=narrow)
        ask = Ask(("a red circle", "a cross"), (1.0, 0.5), ("a square",), id=7)
        assert client(ask) == searcher(ask)
        assert client(ask)[0].as_dict()["id"] == 7
        queries = [QUERY, "a blue square grows"]
        assert list(client.stream(queries, 2)) == list(searcher.stream(queries, 2))
        wanted = Wanted(2, where=narrow, per_video=1)
        assert client.answer([ask, QUERY], wanted) == searcher.answer([ask, QUERY], wanted)


def test_all_that_asks_a_searcher_asks_a_server_too() -> None:
    own = {"of", "encode", "vector_of", "gallery", "refresh", "compact"}  # of its process
    for name in {name for name in vars(Searcher) if name[0] != "_"} - own | {"__call__"}:
        mine, theirs = (
            [
                (one.name, one.kind, one.default)
                for one in inspect.signature(way).parameters.values()
            ]
            for way in (getattr(Client, name), getattr(Searcher, name))
        )
        assert mine == theirs, name


def test_it_asks_by_a_video_and_gives_its_time_line(address: str, searcher: Searcher) -> None:
    path = searcher(QUERY, k=1)[0].path
    with Client(address) as client:
        like = Ask(like=f"{path}@2")
        assert client(like, k=3) == searcher(like, k=3)
        scores, expected = client.frame_scores(QUERY, path), searcher.frame_scores(QUERY, path)
        assert [second for second, _ in scores] == [second for second, _ in expected]
        assert [one for _, one in scores] == pytest.approx([one for _, one in expected], abs=1e-4)


def test_it_asks_by_a_picture(address: str, searcher: Searcher) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    narrow = Filter(path="val-*")
    with Client(address) as client:
        found = client.like_picture(pixels, 3, where=narrow)
    assert found == searcher.like_picture(pixels, 3, where=narrow) and len(found) == 3


def test_what_is_wrong_is_said_in_the_servers_words(address: str) -> None:
    with Client(address) as client:
        with pytest.raises(C4CError, match="k: Input should be less"):
            client(QUERY, k=101)
        with pytest.raises(C4CError, match="has no video nowhere.mp4"):
            client.frame_scores(QUERY, "nowhere.mp4")
    with pytest.raises(C4CError, match="does not answer"):
        Client("http://127.0.0.1:9")(QUERY)
    with pytest.raises(C4CError, match="is no address"):
        Client("ftp://somewhere")
