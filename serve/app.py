"""The application: API and page behind the guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from c4c.core.errors import C4CError
from c4c.core.version import __version__
from c4c.serve.api import ROUTERS
from c4c.serve.batching import Busy
from c4c.serve.film import Films
from c4c.serve.guard import Guard
from c4c.serve.library import Library
from c4c.serve.routes import ERRORS, NotFound, Served, answer
from c4c.serve.thumbnails import Thumbnails

_PAGE = Path(__file__).parent / "page"
_FILES = {"/page.js": "text/javascript", "/page.css": "text/css", "/icon.svg": "image/svg+xml"}

_FORESEEN = (C4CError, HTTPException, RequestValidationError, asyncio.TimeoutError)


def make_app(library: Library, names: Sequence[str] = (), token: str | None = None) -> Guard:
    """What a server runs; when it ends, it closes the library.

    Args:
        library: what is served.
        names: host names that it may be called by, besides addresses and ``localhost``.
        token: what requests must bring; ``None``: nothing.
    """
    app = FastAPI(
        title="c4c",
        version=__version__,
        summary="Find moments of videos by what a sentence says.",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=_lifespan,
    )
    app.state.served = Served(library, Thumbnails(), Films(), token)
    for router in ROUTERS:
        app.include_router(router, responses=ERRORS)
    for path in ("/", "/library", "/video/{name}"):
        app.add_api_route(path, _page, include_in_schema=False, response_class=FileResponse)
    for path in _FILES:
        app.add_api_route(path, _file, include_in_schema=False, response_class=FileResponse)
    for kind in (*_FORESEEN, Exception):
        app.add_exception_handler(kind, _explain)
    return Guard(app, names, token)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    served: Served = app.state.served
    await asyncio.to_thread(served.library.close)
    await asyncio.to_thread(served.thumbnails.close)


def _page() -> Response:
    return FileResponse(_PAGE / "index.html", headers={"cache-control": "no-cache"})


def _file(request: Request) -> Response:
    path = request.url.path
    headers = {"cache-control": "no-cache"}
    return FileResponse(_PAGE / path[1:], headers=headers, media_type=_FILES[path])


async def _explain(request: Request, error: Exception) -> Response:
    """What went wrong, in words and a status."""
    words, status = str(error), 422
    if not isinstance(error, _FORESEEN):
        words, status = "Something went wrong in the server; its log says where.", 500
    elif isinstance(error, HTTPException):
        words, status = str(error.detail), error.status_code
    elif isinstance(error, RequestValidationError):
        words = "; ".join(_told(one) for one in error.errors()[:5])
    elif isinstance(error, NotFound):
        status = 404
    elif isinstance(error, Busy | asyncio.TimeoutError):
        words, status = words or "The server is too busy; ask again in a moment.", 503
    reply = answer({"error": words}, status)
    if status == 503:
        reply.headers["retry-after"] = "1"
    if isinstance(error, HTTPException) and error.headers:
        reply.headers.update(error.headers)
    return reply


def _told(error: dict[str, Any]) -> str:
    where = ".".join(str(one) for one in error["loc"][1:]) or "the request"
    return f"{where}: {error['msg']}"
