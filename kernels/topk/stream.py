"""Search by a GPU of rows that lie elsewhere: in memory, in a file, or in a stream of blocks.

A thread of its own gathers rows into large blocks in one of two buffers of pinned memory and
starts their copy to the GPU, while the block before is searched in one pass. So a large gallery
takes the time of reading it, or of searching it, whichever is longer.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from c4c.kernels.dispatch import check_same
from c4c.kernels.topk.blocks import BLOCK_ROWS, OP, Block
from c4c.kernels.topk.select import LOWEST, unpack_keys

# Bytes of a block: the kernels are started a hundred times for a gallery of 25 GB.
BYTES = 256 << 20
# What kernels take; the rest is compared in float32.
TAKEN = (torch.float16, torch.bfloat16, torch.float32)


def search_stream(
    queries: Tensor, pieces: Iterator[tuple[int, Block]], k: int
) -> tuple[Tensor, Tensor]:
    """Exact search on the device of ``queries``, over pieces (index of the first row, rows)."""
    from c4c.kernels.topk.triton import best_keys

    best = torch.full((len(queries), k), LOWEST, dtype=torch.int64, device=queries.device)
    with closing(blocks_on(queries.device, pieces)) as blocks:
        for first, block in blocks:
            check_same(OP, "widths", queries.shape[1], block.shape[1], "use one backbone for both")
            keys = best_keys(queries.detach(), block, k, first)
            best = torch.cat([best, keys], 1).topk(k, 1).values
    return unpack_keys(best)


def blocks_on(
    device: torch.device, pieces: Iterator[tuple[int, Block]]
) -> Generator[tuple[int, Tensor], None, None]:
    """Large blocks (index of the first row, rows [n, D]) on ``device``, the next under way."""
    feed = _Feed(device, pieces)
    with ThreadPoolExecutor(1, "c4c gallery") as reader:
        ahead = reader.submit(feed.read)
        while (block := ahead.result()) is not None:
            ahead = reader.submit(feed.read)
            first, rows, copied = block
            if copied is not None:
                torch.cuda.current_stream(device).wait_event(copied)
                rows.record_stream(torch.cuda.current_stream(device))
            yield first, rows if rows.dtype in TAKEN else rows.float()


class _Feed:
    """Two buffers, filled in turn; without a GPU they are plain memory."""

    def __init__(self, device: torch.device, pieces: Iterator[tuple[int, Block]]) -> None:
        self._device, self._pieces = device, pieces
        self._gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._gpu else None  # type: ignore[no-untyped-call]
        self._rooms: list[Tensor | None] = [None, None]
        self._copied: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0
        self._next = next(pieces, None)

    def read(self) -> tuple[int, Tensor, torch.cuda.Event | None] | None:
        """The next block: its first row, its rows on the device, when they have arrived."""
        if self._next is None:
            return None
        first, piece = self._next
        if isinstance(piece, Tensor) and piece.device.type != "cpu":
            self._next = next(self._pieces, None)
            return first, piece.detach().to(self._device), None
        room = self._room(piece)
        count = 0
        while self._next is not None and _fits(self._next[1], room[count:]):
            piece = self._next[1]
            _copy(piece, room[count : count + len(piece)])
            count += len(piece)
            self._next = next(self._pieces, None)
        return first, *self._send(room[:count])

    def _room(self, piece: Block) -> Tensor:
        """The buffer whose turn it is, once its last block has left it."""
        self._turn = 1 - self._turn
        copied, room = self._copied[self._turn], self._rooms[self._turn]
        if copied is not None:
            copied.synchronize()
        width, dtype = piece.shape[1], _dtype(piece)
        if room is None or room.shape[1] != width or room.dtype != dtype:
            rows = max(BLOCK_ROWS, BYTES // max(1, width * dtype.itemsize))
            room = torch.empty(rows, width, dtype=dtype, device="cpu", pin_memory=self._gpu)
            self._rooms[self._turn] = room
        return room

    def _send(self, rows: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        with torch.cuda.stream(self._stream):
            sent = rows.to(self._device, non_blocking=True, copy=True)
            if self._stream is not None:
                self._copied[self._turn] = self._stream.record_event()
        return sent, self._copied[self._turn]


def _dtype(piece: Block) -> torch.dtype:
    if isinstance(piece, Tensor):
        return piece.dtype
    return torch.from_numpy(np.empty(0, piece.dtype)).dtype


def _fits(piece: Block, room: Tensor) -> bool:
    """Whether ``piece`` can be added in what is left of a buffer."""
    if isinstance(piece, Tensor) and piece.device.type != "cpu":
        return False
    same = piece.shape[1] == room.shape[1] and _dtype(piece) == room.dtype
    return same and len(piece) <= len(room)


def _copy(piece: Block, room: Tensor) -> None:
    if isinstance(piece, Tensor):
        room.copy_(piece.detach())
    else:  # straight from the file, where it is one
        np.copyto(room.numpy(), piece)
