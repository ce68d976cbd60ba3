"""Re-ranking by what other queries say about a clip: QB-Norm and dual softmax.

QB-Norm asks a bank of training queries, so it works for a single live query. Dual softmax
asks all test queries at once and supposes one clip a caption: figures made with it are not
comparable with others, and its label says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError

Array = npt.NDArray[Any]
LABELS = {
    "qb-norm": "re-ranked by QB-Norm with a bank of training queries",
    "dual-softmax": "re-ranked by dual softmax, which sees all test queries at once: "
    "not comparable with figures of single queries",
}


def dual_softmax(similarity: Array, temperature: float = 0.01) -> Array:
    """Weigh each score by how much its clip prefers that query among all queries.

    Args:
        similarity: [queries, clips], cosines.
        temperature: of the softmax over queries; smaller is sharper.

    Returns:
        float64 [queries, clips]; rank clips in a row by it.

    Raises:
        C4CError: no query, or a temperature that is not above 0.
    """
    scores = _checked(similarity, temperature)
    return scores * _softmax(scores / temperature, axis=0)


def qb_norm(similarity: Array, bank: Array, temperature: float = 0.05, k: int = 1) -> Array:
    """Take down clips that any query finds near (hubs), by a bank of other queries.

    The dynamic inverted softmax: only queries whose best clip is also among the bank's
    ``k`` best clips are touched; the others keep their scores.

    Args:
        similarity: [queries, clips], cosines of the queries asked.
        bank: [bank queries, clips], cosines of training captions with the same clips.
        temperature: of the inverted softmax.
        k: clips of each bank query that count as hubs.

    Returns:
        float64 [queries, clips]; only the order within a row has a meaning.

    Raises:
        C4CError: shapes that do not fit, an empty bank, or a temperature not above 0.
    """
    scores, known = _checked(similarity, temperature), _checked(bank, temperature)
    if known.shape[1] != scores.shape[1]:
        raise C4CError(
            f"QB-Norm: the bank knows {known.shape[1]} clips, the queries {scores.shape[1]}."
        )
    if not 1 <= k <= scores.shape[1]:
        raise C4CError(f"QB-Norm: k is {k}; choose 1 to {scores.shape[1]}.")
    hubs = np.unique(np.argpartition(-known, k - 1, axis=1)[:, :k])
    touched = np.isin(scores.argmax(1), hubs)
    # exp(s / t) / sum(exp(bank / t)) has the order of its logarithm, which cannot overflow.
    peak = known.max(0)
    crowd = peak + temperature * np.log(np.exp((known - peak) / temperature).sum(0))
    return np.where(touched[:, None], scores - crowd, scores)


def _softmax(values: Array, axis: int) -> Array:
    weights = np.exp(values - values.max(axis, keepdims=True))
    found: Array = weights / weights.sum(axis, keepdims=True)
    return found


def _checked(similarity: Array, temperature: float) -> Array:
    found = np.asarray(similarity, np.float64)
    if found.ndim != 2 or not found.size:
        raise C4CError(f"Re-ranking: scores are {found.shape}; expected queries x clips.")
    if not np.isfinite(found).all():
        raise C4CError("Re-ranking: scores hold NaN or infinity; the features are damaged.")
    if not temperature > 0:
        raise C4CError(f"Re-ranking: temperature is {temperature}; expected above 0.")
    return found
