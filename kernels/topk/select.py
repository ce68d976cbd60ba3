"""The running k best of each query while blocks of scores go by.

Order is by score, descending, then by index, ascending: one 64-bit key holds both, so any
way of merging gives the same result. Most of a block cannot enter the k best; it is left
out by looking at the maxima of groups of columns first.
"""

import torch
from torch import Tensor

# Neighbouring columns that share one maximum.
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
        self.threshold = torch.full((queries,), -torch.inf, device=device, dtype=torch.float32)
        self._scratch = torch.empty(0, device=device, dtype=torch.float32)

    def scratch(self, columns: int) -> Tensor:
        """Room for scores float32 [Q, columns], the same memory at every call."""
        size = len(self.keys) * columns
        if self._scratch.numel() < size:
            self._scratch = self._scratch.new_empty(size)
        return self._scratch[:size].view(-1, columns)

    @property
    def seed(self) -> int:
        """Columns to offer first, while there is no threshold yet; 0 once there is one."""
        full = self.keys.shape[1]
        return max(2 * full, 512) if bool(torch.isinf(self.threshold).any()) else 0

    def add_block(self, scores: Tensor, first: int) -> None:
        """Offer float32 scores [Q, n] of the gallery rows ``first`` to ``first + n - 1``.

        Blocks must come in the order of the gallery: a later equal score never enters.
        """
        if self.seed:
            columns = torch.arange(first, first + scores.shape[1], device=scores.device)
            self.keep(self.merged(pack_keys(scores, columns)))
            return
        who, where = columns_above(scores, self.threshold)
        self.add_pairs(who, scores[who, where], where + first)

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
            self.keep(self.merged(table))

    def result(self) -> tuple[Tensor, Tensor]:
        """Scores float32 [Q, k] and indices int64 [Q, k], best first."""
        return unpack_keys(self.keys)

    def merged(self, keys: Tensor) -> Tensor:
        """The k best keys [Q, k] once ``keys`` [Q, m] are among them; nothing is kept."""
        return torch.cat([self.keys, keys], 1).topk(self.keys.shape[1], 1).values

    def floor(self) -> "Best":
        """Nothing but a threshold, which is this one's: all that is kept elsewhere is above it."""
        other = Best(len(self.keys), self.keys.shape[1], self.keys.device)
        if not self.seed:
            # The k-th best score, at a row behind all others.
            other.keep((self.keys[:, -1:] & ~INDEX_MASK).repeat(1, self.keys.shape[1]))
        return other

    def keep(self, keys: Tensor) -> None:
        """Take ``keys`` [Q, k] (from `merged`) as the best so far."""
        self.keys = keys
        self.threshold = unpack_keys(keys[:, -1])[0]


def columns_above(scores: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Query and column of the scores [Q, n] above their query's threshold [Q], by query."""
    n = scores.shape[1]
    if n % GROUP:
        scores = torch.nn.functional.pad(scores, (0, -n % GROUP), value=-torch.inf)
    groups = scores.view(len(scores), scores.shape[1] // GROUP, GROUP)
    who, group = (groups.amax(2) > threshold[:, None]).nonzero(as_tuple=True)
    members = groups.flatten(0, 1).index_select(0, who * groups.shape[1] + group)
    hit, member = (members > threshold[who, None]).nonzero(as_tuple=True)
    return who[hit], group[hit] * GROUP + member
