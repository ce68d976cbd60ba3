"""What the routes of the HTTP API share: what they answer with, and how errors are told."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Path, Request
from starlette.responses import Response

from c4c.core.errors import C4CError
from c4c.serve import models
from c4c.serve.film import Films
from c4c.serve.library import Gallery, Library, Video
from c4c.serve.thumbnails import Thumbnails

T = TypeVar("T")
_PATIENCE = 60.0  # seconds for an answer

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{24}$", description="Of a video.")]
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": models.Error, "description": "The body cannot be read."},
    401: {"model": models.Error, "description": "A token is needed."},
    403: {"model": models.Error, "description": "A request of another site."},
    404: {"model": models.Error, "description": "There is no such thing."},
    413: {"model": models.Error, "description": "The body is too large."},
    421: {"model": models.Error, "description": "The host name is not served."},
    422: {"model": models.Error, "description": "The request is not right, and why."},
    503: {"model": models.Error, "description": "Too many requests wait; Retry-After says when."},
}


class NotFound(C4CError):
    """There is no such thing."""


@dataclass(slots=True)
class Served:
    """What requests are answered with.

    Attributes:
        library: galleries and videos.
        thumbnails: pictures of videos.
        films: looks at videos and makes previews.
        token: what requests must bring; ``None``: nothing.
    """

    library: Library
    thumbnails: Thumbnails
    films: Films
    token: str | None = None


def served_by(request: Request) -> Served:
    """What the application of a request answers with."""
    served: Served = request.app.state.served
    return served


def answer(content: Any, status: int = 200) -> Response:
    """JSON in ASCII: halves of characters, as file names may have them, come through."""
    body = json.dumps(content, allow_nan=False)
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


async def come(future: Future[T]) -> T:
    """What a thread will have, waited for as long as anybody waits.

    Raises:
        TimeoutError: it takes longer.
    """
    return await asyncio.wait_for(asyncio.wrap_future(future), _PATIENCE)


def gallery_of(request: Request, name: str | None) -> Gallery:
    """The gallery of a name, or the first one.

    Raises:
        NotFound: there is none.
    """
    gallery = served_by(request).library.gallery(name)
    if gallery is None:
        raise NotFound("There is no gallery of that name.")
    return gallery


def video_of(request: Request, name: str) -> tuple[Gallery, Video]:
    """The video of an id, and the gallery that it is in.

    Raises:
        NotFound: there is none.
    """
    video = served_by(request).library.video(name)
    if video is None:
        raise NotFound("There is no video of that id.")
    return video
