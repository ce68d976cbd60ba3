"""A server of the small shapes: asked in this process, or by a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from c4c.cache.open import Cache
from c4c.serve.app import make_app
from c4c.serve.library import Library
from c4c.serve.patience import Patient

QUERY = "a red circle moves left then a white cross grows"


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Thumbnails and previews of tests are not kept in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("own")))
        yield


@pytest.fixture(scope="session")
def server(shapes_cache: Path) -> Iterator[TestClient]:
    """A client of the application itself."""
    app = make_app(Library.open([shapes_cache], device="cpu"))
    with TestClient(app, base_url="http://127.0.0.1:8400") as client:
        yield client


@pytest.fixture(scope="session")
def address(shapes_cache: Path) -> Iterator[str]:
    """Where a server listens on a real socket."""
    app = make_app(Library.open([shapes_cache], device="cpu"))
    bound = socket.create_server(("127.0.0.1", 0))
    settings = uvicorn.Config(app, http=Patient, log_level="warning", access_log=False)
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=running.run, args=([bound],), daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not running.started:
        assert time.monotonic() < until, "the server does not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    running.should_exit = True
    thread.join(30)
    assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="session")
def first(server: TestClient) -> dict[str, str]:
    """A video, as the list of them has it."""
    line: dict[str, str] = server.get("/api/videos?limit=1").json()["videos"][0]
    return line


@pytest.fixture(scope="session")
def captions(shapes_cache: Path) -> list[str]:
    """All captions of the cache."""
    manifests = Cache.open(shapes_cache).manifests.values()
    return [caption.text for manifest in manifests for caption in manifest.captions]


def described(reply: object) -> str:
    """The words of an error."""
    return str(json.loads(reply.content)["error"])  # type: ignore[attr-defined]
