"""Atomic files: whole, or not there."""

from pathlib import Path

import pytest

from c4c.core.errors import C4CError
from c4c.core.files import read_json, remove_temporary, write_atomic, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"kept": 1})

    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(C4CError, match="No space left"):
        write_atomic(target, broken)
    assert read_json(target) == {"kept": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=repr)
def test_broken_json_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(C4CError, match="broken.json") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(C4CError, match="Cannot write"):
        write_atomic(tmp_path / "file" / "below.json", b"x")


def test_what_a_killed_library_left_beside_a_file_is_removed_too(tmp_path: Path) -> None:
    """safetensors puts a file of its own beside the one that it is asked for."""
    for name in (".tmp-0123456789ab.safetensors", ".tmppjIPoD", "kept.safetensors", ".kept"):
        (tmp_path / name).write_bytes(b"x")
    remove_temporary(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kept", "kept.safetensors"]
