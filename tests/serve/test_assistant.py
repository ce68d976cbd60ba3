"""The tools of an assistant, used by the SDK's own client."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from PIL import Image

from c4c.retrieval.searcher import Searcher
from c4c.serve.assistant import Assistant
from c4c.serve.library import Library

QUERY = "a red circle moves left then a white cross grows"


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuts")


@pytest.fixture(scope="module")
def assistant(shapes_cache: Path, cuts: Path) -> Iterator[Assistant]:
    made = Assistant(Library.open([shapes_cache], device="cpu"), cuts)
    yield made
    made.close()


def use(assistant: Assistant, tool: str, **arguments: Any) -> Any:
    """What a tool answers, or the words of its error."""

    async def ask() -> Any:
        async with Client(assistant.server()) as client:
            return await client.call_tool(tool, arguments)

    reply = asyncio.run(ask())
    if reply.is_error:
        return reply.content[0].text
    if reply.content and reply.content[0].type == "image":
        return reply.content[0]
    held = reply.structured_content
    return held["result"] if set(held) == {"result"} else held


def test_every_tool_finds_what_the_one_before_named(
    assistant: Assistant, shapes_cache: Path, cuts: Path
) -> None:
    hits = use(assistant, "search", query=QUERY, count=3)
    expected = Searcher(shapes_cache, device="cpu")(QUERY, k=3)
    assert [hit["video"] for hit in hits] == [hit.path for hit in expected]
    assert [hit["best"] for hit in hits] == [hit.best for hit in expected]
    best, at = hits[0]["video"], hits[0]["best"]
    assert Path(best).is_absolute() and Path(best).exists()
    listed = use(assistant, "list_videos", contains=Path(best).name)
    assert listed["total"] == 1 and listed["videos"][0]["video"] == best
    picture = use(assistant, "thumbnail", video=best, second=at)
    assert Image.open(io.BytesIO(base64.b64decode(picture.data))).size == (64, 64)
    assert use(assistant, "open_at", video=best, second=2.5)["link"].endswith(".mp4#t=2.5")
    cut = Path(use(assistant, "cut", video=best, start=1.0, end=3.0))
    assert cut.parent == cuts and cut.read_bytes()[4:8] == b"ftyp"
    again = Path(use(assistant, "cut", video=best, start=1.0, end=3.0))
    assert again != cut and sorted(cuts.iterdir()) == sorted([cut, again])


def test_what_is_wrong_is_said(assistant: Assistant) -> None:
    assert "no such video" in use(assistant, "thumbnail", video="/etc/passwd", second=0)
    assert "no such video" in use(assistant, "cut", video="/etc/passwd", start=0, end=1)
    video = use(assistant, "search", query=QUERY, count=1)[0]["video"]
    assert "120 s at most" in use(assistant, "cut", video=video, start=0, end=500)
    assert "needs words" in use(assistant, "search", query=" ")


def test_without_a_folder_nothing_can_be_written(shapes_cache: Path) -> None:
    async def tools() -> list[Any]:
        async with Client(made.server()) as client:
            return list((await client.list_tools()).tools)

    made = Assistant(Library.open([shapes_cache], device="cpu"))
    held = asyncio.run(tools())
    made.close()
    assert {tool.name for tool in held} == {"search", "list_videos", "thumbnail", "open_at"}
    assert all(tool.annotations.read_only_hint for tool in held)
    assert json.dumps([tool.input_schema for tool in held])
