"""Questions that wait together are answered together: one encoding and one pass for all.

One thread holds the searcher. While it answers, others queue up, and it takes all that wait
next; so the batch grows with the load by itself. The queue is bounded: who finds it full is told
to come again, and memory does not grow.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError
from c4c.retrieval.asking import Ask
from c4c.retrieval.wanted import Wanted

if TYPE_CHECKING:
    from c4c.retrieval.search import Hit
    from c4c.retrieval.searcher import Searcher

_BATCH = 64  # questions answered together, at most: the last one waits for the first
_QUEUE = 256  # that may wait


class Busy(C4CError):
    """Too many wait already."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    ask: Ask
    wanted: Wanted
    answer: Future[list[Hit]]


class Batcher:
    """Answers questions of any number of threads with one searcher.

    Args:
        searcher: what answers.
        most: questions that may wait.
    """

    def __init__(self, searcher: Searcher, most: int = _QUEUE) -> None:
        self._searcher = searcher
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._work, name="c4c-search", daemon=True)
        self._thread.start()

    def ask(self, ask: Ask, wanted: Wanted) -> Future[list[Hit]]:
        """The answers, to come.

        Raises:
            Busy: too many questions wait.
        """
        answer: Future[list[Hit]] = Future()
        try:
            self._waiting.put_nowait(_Waiting(ask, wanted, answer))
        except queue.Full:
            raise Busy("Too many questions wait; ask again in a moment.") from None
        return answer

    def close(self) -> None:
        """Answer what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ended = [first], False
            while len(batch) < _BATCH and not self._waiting.empty():
                one = self._waiting.get()
                if one is None:
                    ended = True
                    break
                batch.append(one)
            by_wanted: dict[Wanted, list[_Waiting]] = {}
            for one in batch:
                # One whose asker has left is not answered.
                if one.answer.set_running_or_notify_cancel():
                    by_wanted.setdefault(one.wanted, []).append(one)
            for wanted, some in by_wanted.items():
                self._answer(some, wanted)
            if ended:
                return

    def _answer(self, some: list[_Waiting], wanted: Wanted) -> None:
        try:
            answers = self._searcher.answer([one.ask for one in some], wanted)
        except Exception as error:
            if len(some) == 1:
                some[0].answer.set_exception(error)
                return
            for one in some:  # what is wrong with one question is not the others' fault
                self._answer([one], wanted)
            return
        for one, hits in zip(some, answers, strict=True):
            one.answer.set_result(hits)
