"""One batch over several processes (``torchrun``), with the gradients of one process.

Each process encodes its part of the batch; frame and text features are gathered; each computes
head and loss over the whole batch. So the loss and the head's gradients are the same
everywhere (they are averaged only to keep rounding from drifting apart), each process holds
the true gradient of its own features, and the encoder's gradients are *summed*. The scaling
is that of one process with the whole batch: no factor of the number of processes is left,
unlike in the authors' code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from c4c.core.errors import C4CError, Interrupted
from c4c.core.lock import one_writer

_TIMEOUT = timedelta(minutes=10)  # of a step: whoever is later than this hangs
_FAREWELL = timedelta(seconds=30)
_PATIENCE = timedelta(days=7)  # for what the first process does alone: decoding, evaluation


@dataclass(frozen=True, slots=True)
class Gathered:
    """Features of the whole batch, and the way back for their gradients.

    Attributes:
        frames: [B, T, D].
        lengths: int64 [B].
        texts: [B, D].
        clip_rows: this process's clips.
        text_rows: its texts.
    """

    frames: Tensor
    lengths: Tensor
    texts: Tensor
    clip_rows: slice
    text_rows: slice

    def give_back(self, frames: Tensor, texts: Tensor) -> None:
        """Set the gradients of this process's features from those of the whole batch."""
        if self.frames is frames:
            return
        if self.frames.grad is not None:
            frames.grad = self.frames.grad[self.clip_rows, : frames.shape[1]]
        if self.texts.grad is not None:
            texts.grad = self.texts.grad[self.text_rows]


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run.

    Attributes:
        rank: this one's number.
        size: how many there are.
        patient: the same processes, for waits without end; ``None`` when there is one.
        store: what they share beside the connections between them; ``None`` likewise.
    """

    rank: int = 0
    size: int = 1
    patient: dist.ProcessGroup | None = None
    store: dist.Store | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def one_writer(self, folder: Path) -> AbstractContextManager[None]:
        """Hold the run folder in the process that writes there; see ``c4c.core.lock``.

        Raises:
            C4CError: another run writes there.
        """
        return one_writer(folder) if self.leads else nullcontext()

    def part(self, count: int) -> slice:
        """This process's share of ``count`` things: contiguous, sizes differ by one at most."""
        return _share(count, self.rank, self.size)

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Rows of all processes [sum of n, …], in the order of ranks; no gradient."""
        if self.size == 1:
            return rows
        shape = torch.tensor(rows.shape, device=rows.device)
        shapes = [torch.zeros_like(shape) for _ in range(self.size)]
        with _together():
            dist.all_gather(shapes, shape)
        largest = torch.stack(shapes).amax(0).tolist()
        padded = _pad_to(rows.detach(), largest).contiguous()
        found = [torch.empty_like(padded) for _ in range(self.size)]
        with _together():
            dist.all_gather(found, padded)
        return torch.cat([part[: int(s[0])] for part, s in zip(found, shapes, strict=True)])

    def gather_batch(self, frames: Tensor, lengths: Tensor, texts: Tensor) -> Gathered:
        """The whole batch of which ``frames`` [b, t, D] and ``texts`` are this process's part."""
        if self.size == 1:
            return Gathered(frames, lengths, texts, slice(None), slice(None))
        counts = self.gather_rows(torch.tensor([[len(frames), len(texts)]], device=frames.device))
        before, here = counts[: self.rank].sum(0).tolist(), counts[self.rank].tolist()
        rows = [slice(start, start + n) for start, n in zip(before, here, strict=True)]
        return Gathered(
            self.gather_rows(frames).requires_grad_(frames.requires_grad),
            self.gather_rows(lengths),
            self.gather_rows(texts).requires_grad_(texts.requires_grad),
            rows[0],
            rows[1],
        )

    def reduce_gradients(self, parameters: Iterable[tuple[nn.Parameter, float]]) -> None:
        """Sum each parameter's gradient over processes, times the share given with it."""
        if self.size == 1:
            return
        for parameter, share in parameters:
            if parameter.grad is None:
                continue
            with _together():
                dist.all_reduce(parameter.grad)
            parameter.grad *= share

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over processes."""
        total = value.detach().clone()
        if self.size > 1:
            with _together():
                dist.all_reduce(total)
        return total / self.size

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each of ``flags`` is set in any process."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32, device=_device())
        with _together():
            dist.all_reduce(votes)
        return tuple(vote > 0 for vote in votes.tolist())

    def equalise(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the parameters of the first one."""
        if self.size == 1:
            return
        for module in modules:
            for value in module.state_dict().values():
                with _together():
                    dist.broadcast(value, 0)

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            with _together():
                dist.barrier()

    def await_leader(self) -> None:
        """Wait for the others, however long the first one takes for what it does alone."""
        if self.size > 1:
            with _together():
                dist.barrier(self.patient)

    def gather_to_leave(self) -> None:
        """Wait until all have got here, without a message between them that could be cut off."""
        if self.store is None:
            return
        with suppress(RuntimeError):  # everything is saved: who is not there is not missed
            if self.store.add("leaving", 1) == self.size:
                self.store.set("all here", "")
            self.store.wait(["all here"], _FAREWELL)


@contextmanager
def many_processes() -> Iterator[World]:
    """The processes of a run, as long as they work together.

    At the end of their work, or when all were asked to stop, they leave together: a connection
    closed while another process still waits for what is on its way could end that one. After an
    error there is nobody to wait for.
    """
    world = join_world()
    try:
        yield world
        world.gather_to_leave()
    except Interrupted:
        world.gather_to_leave()
        raise
    finally:
        if world.size > 1:
            with suppress(RuntimeError):  # the others are gone: nothing is left to close
                dist.destroy_process_group()


def _of_environment(name: str, default: int | None) -> int:
    """A number that ``torchrun`` puts into the environment.

    Raises:
        C4CError: it is not a number, or is missing and has no default.
    """
    value = os.environ.get(name, default)
    if value is None or not str(value).isascii() or not str(value).isdigit():
        raise C4CError(
            f"${name} is {value!r}, which torchrun would not set; unset WORLD_SIZE to train in "
            "one process, or start c4c with torchrun."
        )
    return int(value)


def join_world() -> World:
    """The world that ``torchrun`` describes in the environment; one process without it.

    Raises:
        C4CError: the environment does not describe one.
    """
    size = _of_environment("WORLD_SIZE", 1)
    if size == 1:
        return World()
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(_of_environment("LOCAL_RANK", 0))
    for name in ("RANK", "MASTER_PORT"):
        _of_environment(name, None)
    try:
        store, rank, size = next(dist.rendezvous("env://"))
    except (ValueError, OSError, dist.DistError) as error:
        raise C4CError(f"Could not join the other processes of this training: {error}.") from None
    shared = dist.PrefixStore("c4c", store)
    dist.init_process_group(backend, timeout=_TIMEOUT, world_size=size, rank=rank, store=shared)
    patient: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return World(rank, size, patient, shared)


@contextmanager
def _together() -> Iterator[None]:
    """Around what all processes do at once.

    Raises:
        C4CError: one of them is gone.
    """
    try:
        yield
    except RuntimeError as error:
        raise C4CError(
            "Another process of this run has ended; its own message says why, --resume auto goes "
            f"on from the last checkpoint ({str(error).splitlines()[0][:120]})."
        ) from None


def _share(count: int, rank: int, size: int) -> slice:
    return slice(count * rank // size, count * (rank + 1) // size)


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _pad_to(rows: Tensor, shape: list[int]) -> Tensor:
    pads: list[int] = []
    for have, want in zip(reversed(rows.shape), reversed(shape), strict=True):
        pads += [0, want - have]
    return F.pad(rows, pads)
