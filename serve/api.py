"""The HTTP API: requests in, JSON and media out; everything is asked of ``Library``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from c4c.core.version import __version__
from c4c.serve import api_search, api_videos, models
from c4c.serve.guard import COOKIE, cookie_of, same
from c4c.serve.routes import answer, served_by

router = APIRouter()
ROUTERS = (router, api_search.router, api_videos.router)


@router.get("/api/health", response_model=models.Health, tags=["server"])
async def health() -> Response:
    """Whether the server answers."""
    return answer({"status": "ok", "version": __version__})


@router.post("/api/session", status_code=204, response_class=Response, tags=["server"])
async def session(request: Request, given: models.Session) -> Response:
    """Exchange the token for a cookie, for browsers."""
    token = served_by(request).token
    if token and not same(given.token, token):
        return answer({"error": "That is not the token."}, 401)
    reply = Response(status_code=204)
    if token:
        reply.set_cookie(COOKIE, cookie_of(token), httponly=True, samesite="strict")
    return reply


@router.get("/api/library", response_model=models.LibraryInfo, tags=["library"])
def library(request: Request) -> Response:
    """Galleries: counts, failures with reasons, disk, backbone, progress of the extraction."""
    galleries = served_by(request).library.galleries.values()
    return answer({"galleries": [gallery.description() for gallery in galleries]})
