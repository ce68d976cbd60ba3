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
from c4c.retrieval.filters import Filter

if TYPE_CHECKING:
    from c4c.retrieval.search import Hit
    from c4c.retrieval.searcher import Searcher

_BATCH = 64  # questions answered together, at most: the last one waits for the first
_QUEUE = 256  # that may wait


class Busy(C4CError):
    """Too many wait already."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted of a question besides its words, as ``Searcher.__call__`` has it."""

    k: int = 10
    where: Filter | None = None
    per_video: int | None = None
    min_confidence: float | None = None
    missing: str = "show"


@dataclass(frozen=True, slots=True)
class _Waiting:
    ask: Ask
    options: Options
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

    def ask(self, ask: Ask, options: Options) -> Future[list[Hit]]:
        """The answers, to come.

        Raises:
            Busy: too many questions wait.
        """
        answer: Future[list[Hit]] = Future()
        try:
            self._waiting.put_nowait(_Waiting(ask, options, answer))
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
            by_options: dict[Options, list[_Waiting]] = {}
            for one in batch:
                # One whose asker has left is not answered.
                if one.answer.set_running_or_notify_cancel():
                    by_options.setdefault(one.options, []).append(one)
            for options, some in by_options.items():
                self._answer(some, options)
            if ended:
                return

    def _answer(self, some: list[_Waiting], options: Options) -> None:
        try:
            answers = list(
                self._searcher.stream(
                    [one.ask for one in some],
                    options.k,
                    where=options.where,
                    per_video=options.per_video,
                    min_confidence=options.min_confidence,
                    missing=options.missing,
                )
            )
        except Exception as error:
            if len(some) == 1:
                some[0].answer.set_exception(error)
                return
            for one in some:  # what is wrong with one question is not the others' fault
                self._answer([one], options)
            return
        for one, hits in zip(some, answers, strict=True):
            one.answer.set_result(hits)
