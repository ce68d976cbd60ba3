"""The HTTP API: requests in, JSON and media out; everything is asked of ``Library``."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from c4c.core.errors import C4CError
from c4c.core.version import __version__
from c4c.retrieval.asking import Ask
from c4c.retrieval.filters import Filter
from c4c.retrieval.search import Hit
from c4c.serve import models
from c4c.serve.batching import Options
from c4c.serve.film import Film, Films, media_type
from c4c.serve.guard import COOKIE, cookie_of, same
from c4c.serve.library import Gallery, Library, Video, video_id
from c4c.serve.thumbnails import WIDTHS, Thumbnails

T = TypeVar("T")
LIKELY = 0.5  # a confidence below it: an unrelated sentence's best hit would score higher
_PATIENCE = 60.0  # seconds for an answer
_UPLOAD = 30.0  # seconds for a body to come
_DAY = "private, max-age=86400"
_FILTERS = ("path", "folder", "after", "before", "longer", "shorter", "caption")

Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{24}$", description="Of a video.")]
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": models.Error, "description": "The body cannot be read."},
    401: {"model": models.Error, "description": "A token is needed."},
    403: {"model": models.Error, "description": "A request of another site."},
    404: {"model": models.Error, "description": "There is no such thing."},
    413: {"model": models.Error, "description": "The body is too large."},
    421: {"model": models.Error, "description": "The host name is not served."},
    422: {"model": models.Error, "description": "The request is not right, and why."},
    503: {"model": models.Error, "description": "Too many requests wait; Retry-After says when."},
}
router = APIRouter(responses=_ERRORS)


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


def _served(request: Request) -> Served:
    served: Served = request.app.state.served
    return served


def answer(content: Any, status: int = 200) -> Response:
    """JSON in ASCII: halves of characters, as file names may have them, come through."""
    body = json.dumps(content, allow_nan=False)
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


async def _come(future: Future[T]) -> T:
    return await asyncio.wait_for(asyncio.wrap_future(future), _PATIENCE)


def _gallery(request: Request, name: str | None) -> Gallery:
    gallery = _served(request).library.gallery(name)
    if gallery is None:
        raise NotFound("There is no gallery of that name.")
    return gallery


def _video(request: Request, name: str) -> tuple[Gallery, Video]:
    found = _served(request).library.video(name)
    if found is None:
        raise NotFound("There is no video of that id.")
    return found


@router.get("/api/health", response_model=models.Health, tags=["server"])
async def health() -> Response:
    """Whether the server answers."""
    return answer({"status": "ok", "version": __version__})


@router.post("/api/session", status_code=204, response_class=Response, tags=["server"])
async def session(request: Request, given: models.Session) -> Response:
    """Exchange the token for a cookie, for browsers."""
    token = _served(request).token
    if token and not same(given.token, token):
        return answer({"error": "That is not the token."}, 401)
    reply = Response(status_code=204)
    if token:
        reply.set_cookie(COOKIE, cookie_of(token), httponly=True, samesite="strict")
    return reply


@router.get("/api/library", response_model=models.LibraryInfo, tags=["library"])
def library(request: Request) -> Response:
    """Galleries: counts, failures with reasons, disk, backbone, progress of the extraction."""
    galleries = _served(request).library.galleries.values()
    return answer({"galleries": [gallery.description() for gallery in galleries]})


@router.get("/api/search", response_model=models.Answer, tags=["search"])
async def search(request: Request, wanted: Annotated[models.Wanted, Query()]) -> Response:
    """Moments that fit sentences, another video, or both."""
    gallery = _gallery(request, wanted.gallery)
    ask = _ask(gallery, wanted)
    options = Options(
        wanted.k, _filter(wanted), wanted.per_video, wanted.min_confidence, wanted.missing
    )
    hits = await _come(gallery.batcher.ask(ask, options))
    return _hits(gallery, str(ask), hits)


@router.post(
    "/api/search/image",
    response_model=models.Answer,
    tags=["search"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def search_image(request: Request, wanted: Annotated[models.Narrowed, Query()]) -> Response:
    """Moments that look like a picture, which is the body: JPEG, PNG, WebP, GIF or BMP."""
    gallery = _gallery(request, wanted.gallery)
    body = await asyncio.wait_for(request.body(), _UPLOAD)
    hits = await run_in_threadpool(_like, _served(request), gallery, wanted, body)
    return _hits(gallery, "a picture", hits)


def _like(served: Served, gallery: Gallery, wanted: models.Narrowed, body: bytes) -> list[Hit]:
    with tempfile.NamedTemporaryFile(prefix="c4c-picture-") as stream:
        stream.write(body)
        stream.flush()
        pixels = served.films.picture(stream.name)
    return gallery.searcher.like_picture(
        pixels,
        wanted.k,
        where=_filter(wanted),
        per_video=wanted.per_video,
        missing=wanted.missing,
    )


def _filter(wanted: models.Narrowed) -> Filter:
    given = {name: getattr(wanted, name) for name in _FILTERS}
    days = {name: given[name] and given[name].isoformat() for name in ("after", "before")}
    return Filter(**{**given, **days})


def _hits(gallery: Gallery, query: str, hits: list[Hit]) -> Response:
    sure = [hit.confidence for hit in hits if hit.confidence is not None]
    return answer(
        {
            "query": query,
            "gallery": gallery.name,
            "hits": [_hit(hit) for hit in hits],
            "nothing_fits": not hits or (bool(sure) and max(sure) < LIKELY),
        }
    )


def _ask(gallery: Gallery, wanted: models.Wanted) -> Ask:
    like = None
    if wanted.like:
        video = gallery.contents.videos.get(wanted.like)
        if video is None:
            raise NotFound("There is no video of that id in this gallery.")
        like = video.path if wanted.at is None else f"{video.path}@{wanted.at}"
    return Ask(tuple(wanted.q), tuple(wanted.weight), tuple(wanted.avoid), like=like)


def _hit(hit: Hit) -> dict[str, Any]:
    fields: dict[str, Any] = hit.as_dict()
    fields.pop("query")
    fields.pop("id", None)
    name = os.path.basename(hit.path)
    return {**fields, "notes": list(hit.notes), "video": video_id(hit.path), "name": name}


@router.get("/api/suggest", response_model=models.Suggestions, tags=["search"])
def suggest(
    request: Request,
    q: Annotated[str, Query(max_length=1000)] = "",
    gallery: str | None = None,
) -> Response:
    """Captions that begin with some words, or contain them."""
    found = _gallery(request, gallery).contents.suggestions(q, 8)
    return answer({"captions": found})


@router.get("/api/videos", response_model=models.VideoList, tags=["library"])
def videos(
    request: Request,
    q: Annotated[str, Query(max_length=1000, description="Part of the path.")] = "",
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    gallery: str | None = None,
) -> Response:
    """Videos, by path."""
    held = _gallery(request, gallery).contents.videos.values()
    rows = sorted((one for one in held if q.lower() in one.path.lower()), key=lambda one: one.path)
    lines = [
        {
            "id": one.id,
            "name": os.path.basename(one.path),
            "path": one.path,
            "clips": len(one.clips),
            "status": one.worst,
        }
        for one in rows[offset : offset + limit]
    ]
    return answer({"total": len(rows), "videos": lines})


@router.get("/api/videos/{name}", response_model=models.VideoInfo, tags=["videos"])
def video(request: Request, name: Id) -> Response:
    """A video: its clips, captions and status, and whether browsers play it."""
    gallery, one = _video(request, name)
    film: Film | None = None
    played = False
    exists = os.path.exists(one.path)
    try:
        kind = media_type(one.path)
        film = _served(request).films.about(one.path)
        played = film.is_played(kind)
    except C4CError:
        if not exists:
            film = None
    clips = []
    for split, clip in one.clips:
        wrong = one.status.get((split, clip.id))
        clips.append(
            {
                "id": clip.id,
                "split": split,
                "start": clip.start,
                "end": clip.end,
                "captions": gallery.contents.captions.get((split, clip.id), []),
                "status": wrong.status if wrong else "ok",
                "message": wrong.message if wrong else "",
            }
        )
    return answer(
        {
            "id": one.id,
            "name": os.path.basename(one.path),
            "path": one.path,
            "gallery": gallery.name,
            "status": one.worst,
            "clips": clips,
            "exists": exists,
            "played": played,
            "seconds": film.seconds if film else None,
            "width": film.width if film else None,
            "height": film.height if film else None,
            "codec": film.codec if film else None,
        }
    )


@router.get("/api/videos/{name}/scores", response_model=models.Scores, tags=["videos"])
def scores(request: Request, name: Id, wanted: Annotated[models.Wanted, Query()]) -> Response:
    """How well each frame of a video fits a question: its time line."""
    gallery, one = _video(request, name)
    rows = gallery.searcher.frame_scores(_ask(gallery, wanted), one.path)
    return answer(
        {
            "seconds": [round(second, 3) for second, _ in rows],
            "scores": [round(score, 4) for _, score in rows],
        }
    )


@router.get(
    "/api/videos/{name}/thumbnail",
    response_class=FileResponse,
    responses={200: {"content": {"image/jpeg": {}}}},
    tags=["videos"],
)
async def thumbnail(
    request: Request,
    name: Id,
    at: Annotated[float, Query(ge=0, le=1e6, description="Second of the video.")] = 0.0,
    width: Annotated[int, Query(description="320 or 640 pixels.", ge=1, le=640)] = WIDTHS[0],
) -> Response:
    """A picture of a video at a second."""
    _, one = _video(request, name)
    width = WIDTHS[0] if width <= WIDTHS[0] else WIDTHS[1]
    picture = await _come(_served(request).thumbnails.at(one.path, at, width))
    return FileResponse(picture, headers={"cache-control": _DAY}, media_type="image/jpeg")


@router.get(
    "/api/videos/{name}/preview",
    response_class=FileResponse,
    responses={
        200: {"content": {"video/mp4": {}}},
        206: {"content": {"video/mp4": {}}, "description": "A range of it."},
        416: {"description": "The range lies outside of it."},
    },
    tags=["videos"],
)
def preview(
    request: Request,
    name: Id,
    start: Annotated[float, Query(ge=0, le=1e6)] = 0.0,
    seconds: Annotated[float, Query(gt=0, le=120)] = 30.0,
) -> Response:
    """A part of a video as MP4, without sound: for what browsers do not play."""
    _, one = _video(request, name)
    media_type(one.path)
    made = _served(request).films.preview(one.path, round(start, 1), round(max(seconds, 0.1), 1))
    return FileResponse(made, headers={"cache-control": _DAY}, media_type="video/mp4")


@router.get(
    "/api/videos/{name}/file",
    response_class=FileResponse,
    responses={
        200: {"content": {"video/*": {}}},
        206: {"content": {"video/*": {}}, "description": "A range of it."},
        416: {"description": "The range lies outside of it."},
    },
    tags=["videos"],
)
def file(request: Request, name: Id) -> Response:
    """The file of a video, or ranges of it."""
    _, one = _video(request, name)
    kind = media_type(one.path)
    headers = {"cache-control": "private, no-cache", "accept-ranges": "bytes"}
    return FileResponse(Path(one.path), headers=headers, media_type=kind)
