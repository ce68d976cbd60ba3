"""``c4c serve``: an address bound, the application run on it until it is told to stop."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Sequence

import uvicorn

from c4c.core.errors import C4CError
from c4c.core.files import read_text
from c4c.core.progress import say
from c4c.serve.app import make_app
from c4c.serve.config import ServeConfig
from c4c.serve.library import Library
from c4c.serve.patience import Patient

_CONNECTIONS = 512
_GRACE = 5  # seconds in which requests that run may end
_LEAST = 16  # characters of a token


def run_serve(config: ServeConfig) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        C4CError: the address cannot be bound, other machines reach it and there is no token
            file, or a cache cannot be searched.
    """
    bound = _bind(config.host, config.port)
    with contextlib.closing(bound):
        token = _token(config, bound)
        library = Library.open(config.caches, config.checkpoint, config.device, config.pretrained)
        address, port = bound.getsockname()[:2]
        bound.listen()  # from now on connections wait instead of failing
        shown = f"[{address}]" if ":" in address else address
        say(f"c4c serves on http://{shown}:{port}/ (Ctrl-C ends it)")
        _Server(_settings(library, config.names, token)).run([bound])


def _settings(library: Library, names: Sequence[str], token: str | None) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(library, names, token),
        http=Patient,
        ws="none",
        access_log=False,  # it would hold what people look for
        log_level="warning",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
        server_header=False,
        h11_max_incomplete_event_size=32768,
    )


class _Server(uvicorn.Server):
    """Ends quietly on a signal: that is how it is meant to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in _SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise C4CError(
            f"Cannot serve on {host} port {port}: {why}; pass another --host or --port."
        ) from None
    return bound


def _token(config: ServeConfig, bound: socket.socket) -> str | None:
    """The token that requests must bring, from its file, which is made where there is none.

    Raises:
        C4CError: other machines reach the server, and no file is named; or it holds no token.
    """
    path = config.token_file
    if path is None:
        if not ipaddress.ip_address(bound.getsockname()[0]).is_loopback:
            raise C4CError(
                f"--host {config.host} lets other machines in: pass --token-file FILE, which "
                "holds a secret that they must send (it is made if it does not exist)."
            )
        return None
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_urlsafe(24) + "\n")
        say(f"a new token is in {path}")
    token = read_text(path, 4096).strip()
    if len(token) < _LEAST or not token.isascii() or not token.isprintable() or " " in token:
        raise C4CError(f"{path} holds no token: expected {_LEAST} or more letters and digits.")
    return token
