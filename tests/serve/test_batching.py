"""Questions that wait are answered together, in bounded memory."""

import threading
from pathlib import Path

import pytest

from c4c.core.errors import C4CError
from c4c.retrieval.asking import Ask
from c4c.retrieval.searcher import Searcher
from c4c.retrieval.wanted import Wanted
from c4c.serve.batching import Batcher, Busy


@pytest.fixture
def searcher(shapes_cache: Path) -> Searcher:
    return Searcher(shapes_cache, device="cpu")


def held(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[int]]:
    """The searcher encodes once the event is set; the sizes of what it encoded."""
    go, sizes, encode = threading.Event(), [], searcher.encoder.encode

    def waits(sentences: list[str]) -> object:
        assert go.wait(30)
        sizes.append(len(sentences))
        return encode(sentences)

    searcher.gallery  # noqa: B018 - made before it is held
    monkeypatch.setattr(searcher.encoder, "encode", waits)
    return go, sizes


def test_what_waits_shares_one_encoding(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [[hit.clip for hit in searcher(f"a red circle {n}")] for n in range(20)]
    go, sizes = held(searcher, monkeypatch)
    batcher = Batcher(searcher)
    asked = [batcher.ask(Ask((f"a red circle {n}",)), Wanted()) for n in range(20)]
    go.set()
    answers = [[hit.clip for hit in one.result(30)] for one in asked]
    batcher.close()
    assert answers == expected
    assert sum(sizes) == 20 and len(sizes) <= 2


def test_a_full_queue_refuses_and_what_waits_is_answered(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, _ = held(searcher, monkeypatch)
    batcher = Batcher(searcher, most=3)
    asked = []
    with pytest.raises(Busy, match="ask again"):
        for n in range(9):
            asked.append(batcher.ask(Ask((f"circle {n}",)), Wanted()))
    assert 3 <= len(asked) <= 8
    go.set()
    assert all(one.result(30) for one in asked)
    batcher.close()


def test_a_wrong_question_is_not_the_fault_of_others(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, _ = held(searcher, monkeypatch)
    batcher = Batcher(searcher)
    batcher.ask(Ask(("first",)), Wanted())
    good = batcher.ask(Ask(("a red circle",)), Wanted())
    wrong = batcher.ask(Ask(like="no-such-video.mp4"), Wanted())
    go.set()
    assert good.result(30)
    with pytest.raises(C4CError, match="no clip of no-such-video.mp4"):
        wrong.result(30)
    batcher.close()
