"""Pieces of a shard that several runs write, and one of them removes."""

from pathlib import Path

import numpy as np
import pytest

from c4c.cache import stored
from c4c.cache.identity import Owner
from c4c.cache.pieces import pieces_of, remove_pieces, write_piece
from c4c.cache.shard import Shard, make_shard
from c4c.core import files
from c4c.core.durable import give_name

IDS = ["first", "second"]


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path, "a" * 64)


@pytest.fixture
def folder(owner: Owner) -> Path:
    return owner.path / "pieces/all/part-00000000-abc"


@pytest.fixture
def shard() -> Shard:
    rows = [np.full((2, 8), number, np.float16) for number in (1, 2)]
    times = [np.arange(2, dtype=np.float32)] * 2
    return make_shard("clips", rows, times, ["ok"] * 2, {"ids": IDS, "messages": [""] * 2}, 8)


def test_a_piece_is_written_though_another_run_removes_the_empty_folder_just_then(
    owner: Owner, folder: Path, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = 0

    def late(temporary: Path, path: Path) -> bool:
        nonlocal removed
        if not removed:
            path.parent.rmdir()
            removed += 1
        return give_name(temporary, path)

    monkeypatch.setattr(files, "give_name", late)
    write_piece(folder, 0, 4, shard, owner)
    assert removed
    assert [piece.last for piece in pieces_of(folder, IDS, owner)] == [2]


def test_a_piece_is_written_though_the_one_that_stood_there_goes_at_once(
    owner: Owner, folder: Path, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_piece(folder, 0, 4, shard, owner)
    write_once = stored.write_once

    def lost(*args: object, **more: object) -> bool:
        won: bool = write_once(*args, **more)  # type: ignore[arg-type]
        if not won:
            remove_pieces(folder)
        return won

    monkeypatch.setattr(stored, "write_once", lost)
    write_piece(folder, 0, 4, shard, owner)
    assert [piece.last for piece in pieces_of(folder, IDS, owner)] == [2]
