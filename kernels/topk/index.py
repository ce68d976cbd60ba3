"""An int8 copy of a gallery that makes exact search on a CPU several times faster.

Every row ``g`` is stored as ``g = mean + scale * code + rest`` with int8 codes (one scale
for a group of neighbouring rows), and every query as ``q = step * word + remainder``. By
Cauchy–Schwarz the exact score lies within

    |remainder| * |scale * code| + |q| * |rest|

of ``q . mean + step * scale * (word . code)``, whose last factor is an exact product of
integers. Rows whose upper bound is below the k-th best score found so far cannot be among
the k best; the others are scored in float32 at once (csrc/search.h). So the answer is
that of brute force, whatever the data; only the time depends on it. Where the bound prunes
too little, rows are done in float32 and the bound is tried again when twice as many have
been seen.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels import native
from c4c.kernels.dispatch import check_matrix
from c4c.kernels.topk.blocks import OP, blocks_of, check_finite
from c4c.kernels.topk.lanes import GROUP, PAD, least_norm
from c4c.kernels.topk.parts import search_parts, split_evenly
from c4c.kernels.topk.select import INDEX_MASK

# Rows that the centre is the mean of.
SAMPLE = 1 << 14
# Smaller galleries are searched in float32.
SMALLEST = 1024
# What is stored of an index.
_STATE = ("codes", "mean", "scale", "bounds", "group_bounds")


class GalleryIndex:
    """A gallery prepared for exact search; pass it to `topk_similarity`.

    Takes a quarter of a float32 gallery (plus 8 bytes a row) beside the gallery itself,
    which stays where it is (memory-mapped arrays too) and must not be changed.

    Args:
        gallery: rows [N, D], a tensor or an array; float16, bfloat16 or float32.

    Raises:
        C4CError: the shape does not fit, or a row is NaN or infinite.
    """

    def __init__(self, gallery: Tensor | np.ndarray[Any, Any]) -> None:
        self.rows = _share(gallery)
        self.codes: Tensor | None = None
        if native.levels()[1] and native.takes(self.rows) and len(self.rows) > SMALLEST:
            with _plainly():
                self._build()

    def state(self) -> dict[str, Tensor]:
        """What is held beside the gallery, to be stored with it; empty where nothing is."""
        return {} if self.codes is None else {name: getattr(self, name) for name in _STATE}

    @classmethod
    def restored(
        cls, gallery: Tensor | np.ndarray[Any, Any], state: Mapping[str, Tensor]
    ) -> "GalleryIndex":
        """The index of a gallery whose ``state`` was stored: nothing is computed or read.

        Where the compiled search does not run, or the state is empty, the gallery is searched in
        float32 instead.

        Raises:
            C4CError: the state is that of another gallery.
        """
        index = cls.__new__(cls)
        index.rows, index.codes = _share(gallery), None
        if state and native.levels()[1] and native.takes(index.rows):
            groups, dim = -(-len(index.rows) // GROUP), index.rows.shape[1]
            shapes: dict[str, tuple[int, ...]] = {
                "codes": (groups, -(-dim // 4), GROUP, 4),
                "mean": (dim,),
                "scale": (groups,),
                "bounds": (2, groups * GROUP),
                "group_bounds": (2, groups),
            }
            for name, shape in shapes.items():
                tensor, kind = state.get(name), torch.uint8 if name == "codes" else torch.float32
                if tensor is None or tensor.shape != shape or tensor.dtype != kind:
                    raise C4CError(f"{OP}: the stored index has no '{name}' that fits the gallery.")
                setattr(index, name, tensor.contiguous())
        return index

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes held beside the gallery."""
        if self.codes is None:
            return 0
        held = (self.codes, self.mean, self.scale, self.bounds, self.group_bounds)
        return sum(t.numel() * t.element_size() for t in held)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores float32 [Q, k] and indices int64 [Q, k] of the k best rows, best first."""
        with _plainly():
            return search_parts([self], queries, k)

    def _build(self) -> None:
        count, dim = self.rows.shape
        # Any centre will do; that of some rows is near that of all.
        self.mean = self.rows[:: -(-count // SAMPLE)].float().mean(0)
        groups = -(-count // GROUP)
        self.codes = torch.empty(groups, -(-dim // 4), GROUP, 4, dtype=torch.uint8, device="cpu")
        self.scale = self.mean.new_empty(groups)
        # |scale * code| and |rest| of every row.
        self.bounds = self.mean.new_empty(2, groups * GROUP)
        shares = split_evenly(groups, torch.get_num_threads())
        rooms = self.mean.new_zeros(len(shares), GROUP, dim + -dim % PAD)
        tasks = [
            [native.Task(self._building(room), *share)]
            for room, share in zip(rooms, shares, strict=True)
        ]
        if native.together("build", tasks) != [[last] for _, last in shares]:
            for first, block in blocks_of(self.rows):
                check_finite(block, "gallery row", first)
            self.codes = None  # Finite, but too large for squares in float32.
            return
        self.group_bounds = self.bounds.view(2, groups, GROUP).amax(2)

    @cached_property
    def coded(self) -> native.Coded:
        """The same for native.c."""
        assert self.codes is not None
        return native.Coded(
            **native.layout(self.rows),
            depth=self.codes.shape[1],
            rows=self.rows.data_ptr(),
            **native.pointers(
                codes=self.codes,
                scale=self.scale,
                group_length=self.group_bounds[0],
                group_error=self.group_bounds[1],
                length=self.bounds[0],
                error=self.bounds[1],
            ),
        )

    def _building(self, room: Tensor) -> native.Building:
        assert self.codes is not None
        dim = self.rows.shape[1]
        # What float32 may round away: of the exact score, of q . mean and of the bound.
        rounding = 4 * (dim + 8) * torch.finfo(torch.float32).eps
        return native.Building(
            **native.layout(self.rows),
            count=len(self.rows),
            depth=self.codes.shape[1],
            room_dim=room.shape[1],
            mean_norm=float(self.mean.norm()),
            rounding=rounding,
            least=least_norm(dim),
            rows=self.rows.data_ptr(),
            **native.pointers(
                mean=self.mean,
                room=room,
                codes=self.codes,
                scale=self.scale,
                length=self.bounds[0],
                error=self.bounds[1],
            ),
        )


def _share(gallery: Tensor | np.ndarray[Any, Any]) -> Tensor:
    """The gallery as a tensor on the CPU, without a copy."""
    if not isinstance(gallery, Tensor):
        with warnings.catch_warnings():
            # Read-only memory maps: nothing here writes to them.
            warnings.simplefilter("ignore", UserWarning)
            gallery = torch.from_numpy(gallery)
    check_matrix(OP, "gallery", gallery)
    if gallery.device.type != "cpu":
        raise C4CError(f"{OP}: a GalleryIndex is for the CPU; pass the GPU tensor itself.")
    if len(gallery) > INDEX_MASK:
        raise C4CError(f"{OP}: the gallery has more than {INDEX_MASK} rows; split it.")
    return gallery.detach()


def search_indexes(
    indexes: Sequence[GalleryIndex], queries: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """What ``GalleryIndex.search`` gives, of several as one: rows are numbered through."""
    with _plainly():
        return search_parts(indexes, queries, k)


@contextmanager
def _plainly() -> Iterator[None]:
    """No gradients, and no autocast: what C reads is float32."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield
