"""The running k best of each query while blocks of scores go by.

Order is by score, descending, then by index, ascending: one 64-bit key holds both, so any
way of merging gives the same result. Most of a block cannot enter the k best; it is left
out by looking at the maxima of groups of columns first.
"""

import torch
from torch import Tensor

# Columns of a block that share one maximum (columns g, g + n/GROUP, ...: strided, so that
# the maximum runs over whole vectors).
GROUP = 32
LOWEST = torch.iinfo(torch.int64).min
INDEX_MASK = (1 << 32) - 1


def pack_keys(scores: Tensor, indices: Tensor) -> Tensor:
    """int64 keys whose descending order is score down, then index up.

    Args:
        scores: float32, any shape; -0.0 counts as 0.0.
        indices: integers in 0..2**32 - 1, of the same shape.
    """
    bits = (scores + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << 32) | (INDEX_MASK - indices)


def unpack_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The float32 scores and int64 indices in ``keys``; -inf and -1 where nothing was put."""
    ordered = (keys >> 32).to(torch.int32)
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    indices = INDEX_MASK - (keys & INDEX_MASK)
    empty = keys == LOWEST
    return scores.masked_fill(empty, -torch.inf), indices.masked_fill(empty, -1)


class Best:
    """The k best (score, index) pairs seen so far, for each of Q queries."""

    def __init__(self, queries: int, k: int, device: torch.device) -> None:
        self.keys = torch.full((queries, k), LOWEST, dtype=torch.int64, device=device)
        self.threshold = torch.full((queries,), -torch.inf, device=device)

    def add_block(self, scores: Tensor, first: int) -> None:
        """Offer float32 scores [Q, n] of the gallery rows ``first`` to ``first + n - 1``.

        Blocks must come in the order of the gallery: a later equal score never enters.
        """
        k = self.keys.shape[1]
        seed = 0
        if bool(torch.isinf(self.threshold).any()):
            # Nothing to compare with yet: take a small piece of the block as it is.
            seed = min(scores.shape[1], max(4 * k, 1024))
            columns = torch.arange(first, first + seed, device=scores.device)
            self._merge(pack_keys(scores[:, :seed].contiguous(), columns))
        rest = scores[:, seed:]
        who, where = columns_above(rest, self.threshold)
        self.add_pairs(who, rest[who, where], where + (first + seed))

    def add_pairs(self, who: Tensor, scores: Tensor, indices: Tensor) -> None:
        """Offer pairs [P]: query ``who`` (ascending), float32 score, gallery index."""
        if not len(who):
            return
        counts = torch.bincount(who, minlength=len(self.keys))
        place = torch.arange(len(who), device=who.device) - (counts.cumsum(0) - counts)[who]
        keys = pack_keys(scores, indices)
        # A few long lists must not make all of them long: merge at most 4k at a time.
        width = min(int(counts.max()), max(4 * self.keys.shape[1], 256))
        for low in range(0, int(counts.max()), width):
            table = self.keys.new_full((len(self.keys), width), LOWEST)
            now = (place >= low) & (place < low + width)
            table[who[now], place[now] - low] = keys[now]
            self._merge(table)

    def merge(self, who: Tensor, keys: Tensor) -> None:
        """Offer keys [n, m] for the queries ``who`` [n], each named at most once."""
        every = torch.cat([self.keys[who], keys], 1)
        self.keys[who] = every.topk(self.keys.shape[1], 1).values
        self.threshold = unpack_keys(self.keys[:, -1])[0]

    def result(self) -> tuple[Tensor, Tensor]:
        """Scores float32 [Q, k] and indices int64 [Q, k], best first."""
        return unpack_keys(self.keys)

    def _merge(self, keys: Tensor) -> None:
        every = torch.cat([self.keys, keys], 1)
        self.keys = every.topk(self.keys.shape[1], 1).values
        self.threshold = unpack_keys(self.keys[:, -1])[0]


def columns_above(scores: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Query and column of the scores [Q, n] above their query's threshold [Q], in order."""
    n = scores.shape[1]
    whole = n - n % GROUP
    found = []
    if whole:
        groups = scores[:, :whole].unflatten(1, (GROUP, whole // GROUP))
        who, group = (groups.amax(1) > threshold[:, None]).nonzero(as_tuple=True)
        hit, member = (groups[who, :, group] > threshold[who, None]).nonzero(as_tuple=True)
        found.append((who[hit], member * (whole // GROUP) + group[hit]))
    if whole < n:
        who, column = (scores[:, whole:] > threshold[:, None]).nonzero(as_tuple=True)
        found.append((who, column + whole))
    if not found:
        return threshold.new_empty(0, dtype=torch.int64), threshold.new_empty(0, dtype=torch.int64)
    who, column = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(who, stable=True)
    return who[order], column[order]
