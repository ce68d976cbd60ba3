"""Who may ask: names, origins, tokens and sizes; and what answers carry."""

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from c4c.serve import patience
from c4c.serve.app import make_app
from c4c.serve.guard import MOST_BODY
from c4c.serve.library import Library

TOKEN = "a-token-that-is-long-enough"
HOME = "http://127.0.0.1:8400"


@pytest.fixture(scope="module")
def locked(shapes_cache: Path) -> Iterator[TestClient]:
    """A server that wants a token, and is called ``cinema`` too."""
    app = make_app(Library.open([shapes_cache], device="cpu"), ["cinema"], TOKEN)
    with TestClient(app, base_url=HOME) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost.", "a:b:c"]
)
def test_a_foreign_host_name_is_refused(server: TestClient, host: str) -> None:
    assert server.get("/api/health", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8400", "127.0.0.1", "[::1]:8400", "LOCALHOST"])
def test_names_of_this_machine_are_answered(server: TestClient, host: str) -> None:
    assert server.get("/api/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://["]
)
def test_requests_of_other_sites_are_refused(server: TestClient, origin: str) -> None:
    assert server.get("/api/library", headers={"origin": origin}).status_code == 403
    assert server.get("/api/library", headers={"origin": HOME}).status_code == 200


def test_a_picture_on_another_site_is_not_given(server: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert server.get("/api/library", headers=headers).status_code == 403


def test_without_the_token_there_is_the_page_and_nothing_else(locked: TestClient) -> None:
    for path in ("/", "/page.js", "/page.css", "/api/health"):
        assert locked.get(path).status_code == 200
    for path in ("/api/library", "/api/search?q=x", "/api/openapi.json", "/api/videos"):
        reply = locked.get(path)
        assert reply.status_code == 401 and TOKEN not in reply.text


def test_the_token_opens_as_a_header_and_as_a_cookie(locked: TestClient) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert locked.get("/api/library", headers=bearer).status_code == 200
    wrong = {"authorization": f"Bearer {TOKEN}x"}
    assert locked.get("/api/library", headers=wrong).status_code == 401
    assert locked.post("/api/session", json={"token": "guess"}).status_code == 401
    given = locked.post("/api/session", json={"token": TOKEN})
    assert given.status_code == 204
    cookie = given.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and TOKEN not in cookie
    assert locked.get("/api/library").status_code == 200
    locked.cookies.clear()


def test_a_name_that_was_given_is_answered(locked: TestClient) -> None:
    assert locked.get("/api/health", headers={"host": "cinema:8400"}).status_code == 200


def test_bodies_have_a_limit_whether_they_say_their_size_or_not(server: TestClient) -> None:
    large = b"x" * (MOST_BODY + 1)
    assert server.post("/api/search/image", content=large).status_code == 413
    pieces = (large[: 1 << 20] for _ in range(21))
    assert server.post("/api/search/image", content=pieces).status_code == 413
    said = server.post("/api/search/image", headers={"content-length": "many"}, content=b"x")
    assert said.status_code == 413


@pytest.mark.parametrize(
    "path", ["/", "/library", "/video/x", "/api/health", "/nowhere", "/page.js"]
)
def test_every_answer_keeps_scripts_of_others_out(server: TestClient, path: str) -> None:
    headers = server.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_is_small_and_has_no_script_in_it_nor_anything_of_others(
    server: TestClient,
) -> None:
    parts = [server.get(path).text for path in ("/", "/page.js", "/page.css", "/icon.svg")]
    assert sum(map(len, parts)) < 100_000
    page, script, style, _ = parts
    assert page.count("<script") == 1 and '<script src="/page.js"' in page and "style=" not in page
    assert "http" not in page + style and "innerHTML" not in script
    assert script.count("http") == script.count("http://www.w3.org/2000/svg")


def test_an_error_within_tells_nothing_and_logs_no_question(
    server: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from c4c.serve.library import Contents

    def broken(*_: object) -> list[str]:
        raise RuntimeError("private words")

    monkeypatch.setattr(Contents, "suggestions", broken)
    quiet = TestClient(server.app, base_url=HOME, raise_server_exceptions=False)
    reply = quiet.get("/api/suggest", params={"q": "private question"})
    assert reply.status_code == 500 and "private" not in reply.text
    log = capsys.readouterr().err
    assert "RuntimeError" in log and "private" not in log


def test_whoever_sends_a_request_byte_by_byte_is_shown_out(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes long before the connection would count as idle."""
    monkeypatch.setattr(patience, "HEAD", 0.5)
    host, _, port = address.removeprefix("http://").partition(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        slow.settimeout(0.05)
        reply: bytes | None = None
        for byte in b"GET / HTTP/1.1\r\nx: " + b"a" * 400:
            with contextlib.suppress(TimeoutError):
                try:
                    slow.sendall(bytes([byte]))
                    reply = slow.recv(100)
                except ConnectionError:
                    reply = b""
            if reply == b"" or time.monotonic() - began > 15:
                break
    assert reply == b""


def test_a_patient_client_asks_many_times_over_one_connection(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "HEAD", 0.3)
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    for _ in range(4):
        connection.request("GET", "/api/health")
        assert connection.getresponse().read()
        sock = connection.sock
        time.sleep(0.2)
    assert connection.sock is sock
    connection.close()
