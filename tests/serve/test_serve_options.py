"""``c4c serve`` and ``c4c mcp`` as they are run: a process, its address, its end."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from mcp import Client, StdioServerParameters

from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone.tiny import WEIGHTS
from c4c.heads import build_head
from c4c.heads.checkpoint import save_checkpoint

QUERY = "a red circle moves left then a white cross grows"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("run") / "best"
    torch.manual_seed(0)
    save_checkpoint(folder, build_head("seqTransf", 128, layers=1), {})
    return folder


@contextlib.contextmanager
def served(*args: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A server, with the host and port that it says it is on."""
    command = [sys.executable, "-m", "c4c", "serve", *args]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"serves on http://([0-9.]+):([0-9]+)/", line):
                yield process, found[1], int(found[2])
                return
        raise AssertionError("the server ended before it listened")
    finally:
        process.kill()
        process.wait(30)


def ask(host: str, port: int, path: str, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.request("GET", path, headers=headers)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, json.loads(data)


@pytest.mark.shows(
    "serve",
    "--port",
    "--host",
    "--name",
    "--token-file",
    "--checkpoint",
    "--pretrained",
    "--device",
)
def test_a_server_is_what_its_options_say_and_ends_in_peace(
    shapes_cache: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.2", 0)) as free:
        port = free.getsockname()[1]
    token = tmp_path / "token"
    options = ["--host", "127.0.0.2", "--port", str(port), "--name", "cinema", "--device", "cpu"]
    options += ["--checkpoint", str(checkpoint), "--pretrained", str(WEIGHTS)]
    with served(str(shapes_cache), *options, "--token-file", str(token)) as (process, *where):
        assert where == ["127.0.0.2", port]
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        bearer = {"Authorization": f"Bearer {token.read_text().strip()}"}
        assert ask(*where, "/api/library", Host="cinema")[0] == 401
        status, library = ask(*where, "/api/library", Host="cinema", **bearer)
        assert status == 200 and library["galleries"][0]["head"] == "seqTransf"
        assert ask(*where, "/api/library", Host="theatre", **bearer)[0] == 421
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def refused(*args: str) -> str:
    done = CliRunner().invoke(group, [*args])
    assert isinstance(done.exception, C4CError), done.output
    return str(done.exception)


def test_what_cannot_be_served_is_said(shapes_cache: Path, tmp_path: Path) -> None:
    cache = str(shapes_cache)
    assert "pass --token-file FILE" in refused("serve", cache, "--host", "0.0.0.0", "--port", "0")
    (tmp_path / "short").write_text("secret")
    short = ["--port", "0", "--token-file", str(tmp_path / "short")]
    assert "holds no token" in refused("serve", cache, *short)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "pass another --host or --port" in refused("serve", cache, "--port", port)
    assert "cuda:77" in refused("serve", cache, "--port", "0", "--device", "cuda:77")
    # Where a gallery stands already, weights are not looked at before a question comes.
    bare = shutil.copytree(shapes_cache, tmp_path / "bare")
    shutil.rmtree(bare / "gallery", ignore_errors=True)
    other = ["--port", "0", "--pretrained", "none", "--device", "cpu"]
    assert "other weights than 'none'" in refused("serve", str(bare), *other)
    assert "other weights than 'none'" in refused("mcp", str(bare), *other[2:])


@pytest.mark.shows("mcp", "--cuts", "--checkpoint", "--device", "--pretrained")
def test_an_assistant_starts_the_tools_as_a_program(
    shapes_cache: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--cuts", str(tmp_path / "cuts"), "--checkpoint", str(checkpoint)]
    options += ["--device", "cpu", "--pretrained", str(WEIGHTS)]
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "c4c", "mcp", str(shapes_cache), *options],
        env=dict(os.environ),
    )

    async def use() -> tuple[set[str], Any]:
        async with Client(program) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            return tools, await client.call_tool("search", {"query": QUERY, "count": 2})

    tools, reply = asyncio.run(use())
    assert tools == {"search", "list_videos", "thumbnail", "open_at", "cut"}
    from c4c.retrieval.searcher import Searcher

    expected = Searcher(shapes_cache, checkpoint, device="cpu")(QUERY, k=2)
    hits = reply.structured_content["result"]
    assert [hit["video"] for hit in hits] == [hit.path for hit in expected]
    assert "cuda:77" in refused("mcp", str(shapes_cache), "--device", "cuda:77")


def test_slow_and_broken_clients_hold_up_nobody(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(20)]
    for one in slow:
        one.sendall(b"GET /api/hea")
    broken = socket.create_connection((host, int(port)))
    broken.sendall(b"\x16\x03\x01 no http at all\r\n\r\n")
    began = time.monotonic()
    assert ask(host, int(port), "/api/health")[0] == 200
    assert time.monotonic() - began < 30
    for one in [*slow, broken]:
        one.close()
