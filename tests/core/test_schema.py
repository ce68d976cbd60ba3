"""Records from files: what is right is taken, what is wrong is named with its place."""

import doctest
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c4c.core import schema
from c4c.core.errors import C4CError, Damaged, Misplaced, NewerVersion, Unreadable
from c4c.core.files import file_sha256, read_bytes, read_json, read_text
from c4c.core.records import Clip
from c4c.core.schema import AsList, Closed, Range, Rest, parse, read_record, sealed
from c4c.core.toml import read_toml


@dataclass(frozen=True)
class Inner:
    name: str
    share: Annotated[float, Range(0, 1)] = 0.5


@dataclass(frozen=True)
class Outer:
    clips: tuple[Annotated[Clip, AsList], ...]
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner | None = None
    by_name: dict[str, list[int]] = field(default_factory=dict)
    root: Path | None = None
    both: int | str = 0
    more: Annotated[dict[str, Any], Rest] = field(default_factory=dict)


def test_a_value_that_fits_becomes_the_record() -> None:
    value = {
        "clips": [["a", "a.mp4", 0, 1.5], ["b", "b.mp4"]],
        "inner": {"name": "x", "share": 1},
        "by_name": {"one": [1, 2]},
        "root": "/data",
        "both": "text",
        "other": [1, {"deep": None}],
    }
    found = parse(Outer, value, "a.json")
    assert found.clips == (Clip("a", "a.mp4", 0.0, 1.5), Clip("b", "b.mp4"))
    assert found.inner == Inner("x", 1.0)
    assert isinstance(found.inner.share, float)
    assert (found.mode, found.root, found.both) == ("fast", Path("/data"), "text")
    assert (found.by_name, found.more) == ({"one": [1, 2]}, {"other": [1, {"deep": None}]})


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clips": None}, "clips is null, expected a list"),
        ({"clips": {}}, "clips is an object, expected a list"),
        ({"clips": [["a", "a.mp4"], ["b"]]}, "clips[1] is a list of 1, expected a list of 4"),
        ({"clips": [["a", "a.mp4", "0"]]}, "clips[0][2] is '0', expected a number"),
        ({"clips": [["a", "a.mp4", True]]}, "clips[0][2] is true, expected a number"),
        ({"clips": [["a", "a.mp4", 2, 1]]}, "clips[0] is wrong: Clip 'a': end is 1.0"),
        ({"clips": [["a", "a\0", 2]]}, "clips[0] is wrong: Clip 'a': its path holds a NUL"),
        ({"mode": "odd"}, "mode is 'odd', expected 'fast' or 'slow'"),
        ({"inner": []}, "inner is a list, expected an object or null"),
        ({"inner": {}}, "inner has no 'name'"),
        ({"inner": {"name": "x", "share": 1.5}}, "inner.share is 1.5, expected a number from 0"),
        ({"inner": {"name": "x", "share": float("nan")}}, "inner.share is nan, expected a finite"),
        ({"inner": {"name": "x", "share": 10**400}}, "inner.share is a number of 1329 bits"),
        ({"inner": {"name": "\ud800"}}, "inner.name holds half a character"),
        ({"by_name": {"one": [1, 2.0]}}, "by_name.one[1] is 2.0, expected a whole number"),
        ({"by_name": {"o\nne": 3}}, "by_name['o\\nne'] is 3, expected a list"),
        ({"by_name": {"one": [2**63]}}, "by_name.one[0] is 9223372036854775808, expected a whole"),
        ({"root": "a\0"}, "root holds a NUL character"),
        ({"both": [1]}, "both is a list, expected a whole number or a text"),
        ({"other": float("inf")}, "other is inf, expected a finite number"),
        ({"other": nested(40)}, "is nested more than 32 deep"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises(C4CError) as caught:
        parse(Outer, {"clips": [], **change}, "a.json", remedy="write it again")
    assert words in str(caught.value)
    assert str(caught.value).endswith("; write it again.")
    assert "\n" not in str(caught.value)


def test_a_newer_version_is_no_damage() -> None:
    for kind, value in (
        (Outer, {"schema": 4, "clips": "who knows what"}),
        (Annotated[Inner, Closed], {"name": "x", "shade": 1}),
    ):
        with pytest.raises(NewerVersion, match="upgrade c4c"):
            parse(kind, value, "a.json", schema=3 if "schema" in value else None)
    for number in (0, -1, True, 1.0, "1", None):
        with pytest.raises(C4CError, match="no schema number") as caught:
            parse(Outer, {"schema": number, "clips": []}, "a.json", schema=3)
        assert not isinstance(caught.value, NewerVersion)


def test_a_sealed_record_is_compared_with_its_checksum(tmp_path: Path) -> None:
    content = sealed({"schema": 1, "name": "x ☂", "share": 0.25})
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, indent=3))
    assert read_record(path, Inner, schema=1) == Inner("x ☂", 0.25)
    path.write_text(json.dumps({**content, "share": 0.5}))
    with pytest.raises(Damaged, match="differs from its checksum"):
        read_record(path, Inner, schema=1)


@pytest.mark.parametrize("depth", [900, 940, 960, 980, 990])
def test_depth_in_a_key_that_nobody_reads_is_one_line_too(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    deep = "[" * depth + "]" * depth
    path.write_text(f'{{"schema": 1, "name": "x", "more": {deep}, "sha256": "0"}}')
    with pytest.raises(C4CError, match="checksum|too deeply"):
        read_record(path, Inner, schema=1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["clips", "mode", "inner", "both", "name", ""]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_value_is_a_record_or_one_line(value: Any) -> None:
    try:
        assert isinstance(parse(Outer, value, "a.json", schema=1), Outer)
    except C4CError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('{"a": NaN}', "it holds NaN"),
        ('{"a": -Infinity}', "it holds -Infinity"),
        ("9" * 5000, "is not JSON"),
        ("[" * 5000, "nested too deeply"),
        ("\ufeff[1]", None),
        ("[1]\0", "NUL"),
        ('["\u2028"]', None),
    ],
)
def test_json_is_read_strictly(tmp_path: Path, text: str, words: str | None) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    if words is None:
        assert read_json(path)
        return
    with pytest.raises(C4CError, match=words) as caught:
        read_json(path)
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["a = [", "a." * 50_000 + "b = 1", "[" + "a ." * 50_000, "a = " + "[" * 50_000, "a = 1\na = 2",
     f"a = {'9' * 5000}"],
    ids=["cut", "key", "table", "deep", "twice", "digits"],
)  # fmt: skip
def test_toml_that_is_none_is_a_line_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c4c.toml"
    path.write_text(text)
    with pytest.raises(C4CError, match=r"c4c\.toml is not TOML") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)


def test_toml_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa.b = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"a": {"b": 1}}


def expire(*_: object) -> None:
    raise TimeoutError


@pytest.mark.parametrize("read", [read_bytes, read_json, file_sha256])
def test_only_regular_files_are_read_and_nothing_waits(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A pipe that nobody writes to would block for ever; /dev/zero would fill the memory."""
    pipe, link, listening = (tmp_path / name for name in ("pipe", "link", "socket"))
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        signal.signal(signal.SIGALRM, expire)
        for path in (pipe, link, listening, tmp_path, Path("/dev/null")):
            signal.alarm(20)
            with pytest.raises(Misplaced, match="not a regular file"):
                read(path)
            signal.alarm(0)


def test_what_is_missing_too_large_or_not_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match="does not exist"):
        read_bytes(tmp_path / "none")
    with pytest.raises(Unreadable, match="Cannot read"):
        read_bytes(tmp_path / ("x" * 5000))
    with pytest.raises(Unreadable, match="Cannot read"):
        read_bytes(Path("a\0b"))
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(C4CError, match="no file of its kind has more"):
        read_text(sparse)
    (tmp_path / "latin").write_bytes("a\nbé".encode("latin-1"))
    with pytest.raises(C4CError, match="line 2 is not UTF-8"):
        read_text(tmp_path / "latin")


def test_the_example_is_true() -> None:
    assert doctest.testmod(schema) == (0, 2)
