"""Who may ask what: the first thing that a request meets.

A server on 127.0.0.1 is reached by every page that a browser shows. So the name that it is
called by is checked (a foreign name that resolves to this machine is DNS rebinding), and so is
where a request comes from. A server that other machines reach wants a token too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from c4c.core.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 20 << 20  # bytes: a picture
_TOO_LARGE = f"Bodies have {MOST_BODY >> 20} MB at most."
COOKIE = "c4c"
OPEN = ("/", "/library", "/page.js", "/page.css", "/icon.svg", "/api/health", "/api/session")
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Refuses what must not come in, and sends what keeps pages apart with every answer.

    Args:
        app: what answers.
        names: host names that it may be called by, besides addresses and ``localhost``.
        token: what requests must bring; ``None``: nothing.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = (), token: str | None = None) -> None:
        self._app, self._token = app, token
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal:
            await _answer(sent, *refusal)
            return
        try:
            await self._app(scope, _limited(receive), sent)
        except Exception as error:
            # It was answered (``explain``). Neither the question nor a path is told here, only
            # what a maintainer needs to find the fault.
            say(f"error in {scope['method']} {_place(error)}: {type(error).__name__}")

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "This host name is not served here; c4c serve --name adds one."
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "Requests of other sites are refused."
        if (
            headers.get("sec-fetch-site") == "cross-site"
            and headers.get("sec-fetch-mode") != "navigate"
        ):
            return 403, "Requests of other sites are refused."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BODY:
            return 413, _TOO_LARGE
        path = scope["path"]
        is_open = path in OPEN or path.startswith("/video/")
        if self._token and not is_open and not self._knows(headers):
            return 401, "A token is needed: send it as Authorization: Bearer TOKEN."
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a request called this server by an address or one of its names."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            # An address cannot be made to point elsewhere, as a name can.
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _knows(self, headers: dict[str, str]) -> bool:
        assert self._token
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same(given.strip(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same(cookie.value, cookie_of(self._token))


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def cookie_of(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac.new(token.encode(), b"c4c session", hashlib.sha256).hexdigest()


def _limited(receive: Receive) -> Receive:
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BODY:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return limited


async def _answer(send: Send, status: int, words: str) -> None:
    body = json.dumps({"error": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
