"""Routes of videos: what is known of them, and their pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from c4c.core.errors import C4CError
from c4c.extract.video.apart import Film
from c4c.serve import models
from c4c.serve.film import is_played, media_type
from c4c.serve.routes import Id, answer, come, gallery_of, served_by, video_of
from c4c.serve.thumbnails import WIDTHS

_DAY = "private, max-age=86400"
router = APIRouter()


@router.get("/api/videos", response_model=models.VideoList, tags=["library"])
def videos(
    request: Request,
    q: Annotated[str, Query(max_length=1000, description="Part of the path.")] = "",
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    gallery: str | None = None,
) -> Response:
    """Videos, by path."""
    held = gallery_of(request, gallery).contents.videos.values()
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
    gallery, one = video_of(request, name)
    film: Film | None = None
    played = False
    exists = os.path.exists(one.path)
    try:
        kind = media_type(one.path)
        film = served_by(request).films.about(one.path)
        played = is_played(film, kind)
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
    _, one = video_of(request, name)
    width = WIDTHS[0] if width <= WIDTHS[0] else WIDTHS[1]
    picture = await come(served_by(request).thumbnails.at(one.path, at, width))
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
    _, one = video_of(request, name)
    media_type(one.path)
    made = served_by(request).films.preview(one.path, round(start, 1), round(max(seconds, 0.1), 1))
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
    _, one = video_of(request, name)
    kind = media_type(one.path)
    headers = {"cache-control": "private, no-cache", "accept-ranges": "bytes"}
    return FileResponse(Path(one.path), headers=headers, media_type=kind)
