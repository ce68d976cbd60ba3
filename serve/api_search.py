"""Routes that search."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from c4c.retrieval.asking import Ask
from c4c.retrieval.filters import Filter
from c4c.retrieval.search import Hit
from c4c.retrieval.wanted import Wanted
from c4c.serve import models
from c4c.serve.library import Gallery, video_id
from c4c.serve.routes import Id, NotFound, Served, answer, come, gallery_of, served_by, video_of

LIKELY = 0.5  # a confidence below it: an unrelated sentence's best hit would score higher
_UPLOAD = 30.0  # seconds for a body to come
_FILTERS = ("path", "folder", "after", "before", "longer", "shorter", "caption")
router = APIRouter()


@router.get("/api/search", response_model=models.Answer, tags=["search"])
async def search(request: Request, wanted: Annotated[models.Wanted, Query()]) -> Response:
    """Moments that fit sentences, another video, or both."""
    gallery = gallery_of(request, wanted.gallery)
    ask = _ask(gallery, wanted)
    asked = Wanted(
        wanted.k, _filter(wanted), wanted.per_video, wanted.min_confidence, wanted.missing
    )
    hits = await come(gallery.batcher.ask(ask, asked))
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
    gallery = gallery_of(request, wanted.gallery)
    body = await asyncio.wait_for(request.body(), _UPLOAD)
    hits = await run_in_threadpool(_like, served_by(request), gallery, wanted, body)
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
    found = gallery_of(request, gallery).contents.suggestions(q, 8)
    return answer({"captions": found})


@router.get("/api/videos/{name}/scores", response_model=models.Scores, tags=["videos"])
def scores(request: Request, name: Id, wanted: Annotated[models.Wanted, Query()]) -> Response:
    """How well each frame of a video fits a question: its time line."""
    gallery, one = video_of(request, name)
    rows = gallery.searcher.frame_scores(_ask(gallery, wanted), one.path)
    return answer(
        {
            "seconds": [round(second, 3) for second, _ in rows],
            "scores": [round(score, 4) for _, score in rows],
        }
    )
