"""``Client``: a searcher that runs in a server, asked like one that runs here."""

from __future__ import annotations

import http.client
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from c4c.core.errors import C4CError
from c4c.core.limits import HITS
from c4c.core.records import Query
from c4c.retrieval.asking import Ask
from c4c.retrieval.filters import Filter
from c4c.retrieval.search import Hit
from c4c.retrieval.wanted import Wanted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PATIENCE = 90.0  # seconds for an answer
_TRIES = 5  # of a server that says it is busy
_MOST = 64 << 20  # bytes of an answer


class Client:
    """Asks a server that ``c4c serve`` runs; methods are those of ``Searcher``.

    All that ask are here. Vectors (``encode``, ``vector_of``) and the gallery's upkeep
    (``gallery``, ``refresh``, ``compact``) stay with the server, which takes up by itself what a
    cache gains. It keeps one connection, so each thread wants a client of its own.

    Args:
        url: of the server, such as ``http://127.0.0.1:8400``.
        token: what the server's token file holds; ``None`` takes it from ``$C4C_TOKEN``.
        gallery: which of its galleries is asked; ``None`` is the first.

    Raises:
        C4CError: that is no address of a server.

    Example:
        with Client("http://127.0.0.1:8400") as search:
            for hit in search("a dog runs into the sea", k=3):
                print(hit.path, hit.start, hit.end, hit.confidence)
    """

    def __init__(self, url: str, *, token: str | None = None, gallery: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise C4CError(f"'{url}' is no address of a server, such as http://127.0.0.1:8400.")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._url, self._gallery = url, gallery
        self._base = parts.path.rstrip("/")
        self._connection = kind(parts.hostname, parts.port, timeout=_PATIENCE)
        secret = token or os.environ.get("C4C_TOKEN")
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._ids: dict[str, str] = {}  # of videos that hits named, by path

    def __call__(self, query: str | Ask, k: int = HITS, **wanted: Any) -> list[Hit]:
        """The k best answers to one question, best first; see ``Searcher.__call__``.

        Args:
            query: a sentence, or an ``Ask`` of several parts.
            k: answers at most, 1 to 100.
            wanted: the other fields of ``Wanted``: ``where``, ``per_video``, ….

        Raises:
            C4CError: what the server says is wrong, or it does not answer.
        """
        ask = Ask.of(query)
        asked = [*self._question(ask), *_narrowed(Wanted(k, **wanted))]
        return [self._hit(ask.label, one) for one in self._get("/api/search", asked)["hits"]]

    def like_picture(
        self, pixels: npt.NDArray[np.uint8], k: int = HITS, **wanted: Any
    ) -> list[Hit]:
        """The k answers that look most like a picture; see ``Searcher.like_picture``.

        Args:
            pixels: uint8 [H, W, 3], RGB, upright.
            k: answers at most, 1 to 100.
            wanted: as ``__call__`` has it, without ``min_confidence``.

        Raises:
            C4CError: see ``__call__``.
        """
        asked = [("gallery", self._gallery), *_narrowed(Wanted(k, **wanted))]
        found = self._get("/api/search/image", asked, _png(pixels))
        return [self._hit(Query("a picture"), one) for one in found["hits"]]

    def stream(
        self, queries: Iterable[str | Ask], k: int = HITS, **wanted: Any
    ) -> Iterator[list[Hit]]:
        """The answers to each of any number of questions, in their order; see ``__call__``.

        Raises:
            C4CError: see ``__call__``.
        """
        for query in queries:
            yield self(query, k, **wanted)

    def answer(self, queries: Sequence[str | Ask], wanted: Wanted) -> list[list[Hit]]:
        """The answers to some questions, in their order; see ``Searcher.answer``.

        Raises:
            C4CError: see ``__call__``.
        """
        return list(self.stream(queries, **_values(wanted)))

    def frame_scores(self, query: str | Ask, video: str) -> list[tuple[float, float]]:
        """The cosine of each frame of a video with a question: (second, cosine), by time.

        Args:
            query: a sentence, or an ``Ask`` of several parts.
            video: the path of a video, as hits have it.

        Raises:
            C4CError: see ``__call__``; or the server has no such video.
        """
        name = self._id(video)
        content = self._get(f"/api/videos/{name}/scores", self._question(Ask.of(query)))
        return list(zip(content["seconds"], content["scores"], strict=True))

    def close(self) -> None:
        """Close the connection; asked again, it is opened again."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._url})"

    def _question(self, ask: Ask) -> list[tuple[str, Any]]:
        pairs = [("q", one) for one in ask.sentences] + [("not", one) for one in ask.avoid]
        rows: list[tuple[str, Any]] = [*pairs, *(("weight", one) for one in ask.weights)]
        if ask.like:
            video, _, second = ask.like.rpartition("@")
            at = _number(second) if video else None
            rows.append(("like", self._id(ask.like if at is None else video)))
            rows.append(("at", at))
        return [*rows, ("gallery", self._gallery)]

    def _id(self, path: str) -> str:
        """What the server calls a video."""
        if path not in self._ids:
            asked = [("q", path), ("limit", 200), ("gallery", self._gallery)]
            for one in self._get("/api/videos", asked)["videos"]:
                self._ids[one["path"]] = one["id"]
        if path not in self._ids:
            raise C4CError(f"{self._url} has no video {path}.")
        return self._ids[path]

    def _hit(self, query: Query, content: dict[str, Any]) -> Hit:
        self._ids[content["path"]] = content["video"]
        names = [field.name for field in fields(Hit) if field.name not in ("query", "notes")]
        own = {name: content[name] for name in names}
        return Hit(query=query, notes=tuple(content["notes"]), **own)

    def _get(self, path: str, asked: list[tuple[str, Any]], body: bytes | None = None) -> Any:
        pairs = [(name, value) for name, value in asked if value is not None]
        target = f"{self._base}{path}?{urlencode(pairs)}"
        for attempt in range(_TRIES):
            status, content = self._send(target, body)
            if status != 503 or attempt == _TRIES - 1:
                break
            time.sleep(0.2 * 2**attempt)
        if status == 200:
            return content
        raise C4CError(f"{self._url}: {content.get('error', f'status {status}')}")

    def _send(self, target: str, body: bytes | None) -> tuple[int, Any]:
        method = "GET" if body is None else "POST"
        fresh = self._connection.sock is None
        try:
            self._connection.request(method, target, body, self._headers)
            reply = self._connection.getresponse()
            data = reply.read(_MOST)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if not fresh and not isinstance(error, TimeoutError):
                return self._send(target, body)  # the server closed a connection that rested
            why = getattr(error, "strerror", None) or type(error).__name__
            raise C4CError(f"{self._url} does not answer ({why}); does c4c serve run?") from None
        try:
            return reply.status, json.loads(data)
        except ValueError:
            raise C4CError(f"{self._url} is no c4c server: it answers with no JSON.") from None


def _narrowed(wanted: Wanted) -> list[tuple[str, Any]]:
    given = _values(wanted)
    where = given.pop("where") or Filter()
    return [*given.items(), *_values(where).items()]


def _values(settings: Wanted | Filter) -> dict[str, Any]:
    """The fields and no more: a filter that was used keeps what it has worked out."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, "PNG")
    return memory.getvalue()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
