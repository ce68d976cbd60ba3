"""Re-ranking: hand-made hubs, single live queries, no overflow."""

import numpy as np
import pytest

from c4c.errors import C4CError
from c4c.retrieval.rerank import dual_softmax, qb_norm

# Clip 0 is a hub: the bank loves it; the query's own clip is 1.
QUERY = np.array([[0.50, 0.48, 0.10]])
BANK = np.array([[0.60, 0.20, 0.10], [0.55, 0.10, 0.20]])


def test_qb_norm_takes_down_a_hub() -> None:
    assert QUERY.argmax() == 0
    assert qb_norm(QUERY, BANK).argmax() == 1


def test_qb_norm_leaves_queries_alone_whose_best_clip_is_no_hub() -> None:
    query = np.array([[0.1, 0.9, 0.2]])
    assert (qb_norm(query, BANK) == query).all()


def test_qb_norm_of_one_query_is_that_of_many() -> None:
    generator = np.random.default_rng(0)
    queries, bank = generator.normal(size=(6, 5)), generator.normal(size=(9, 5))
    whole = qb_norm(queries, bank)
    alone = np.concatenate([qb_norm(queries[i : i + 1], bank) for i in range(6)])
    np.testing.assert_array_equal(whole, alone)


def test_qb_norm_orders_as_the_inverted_softmax_does() -> None:
    generator = np.random.default_rng(0)
    queries, bank = generator.uniform(size=(6, 5)), generator.uniform(size=(9, 5))
    direct = np.exp(queries / 0.05) / np.exp(bank / 0.05).sum(0)
    found = qb_norm(queries, bank, k=5)  # every clip is a hub: every query is touched
    assert (found.argsort(1) == direct.argsort(1)).all()


def test_dual_softmax_gives_a_wanted_clip_to_the_query_that_wants_it_most() -> None:
    found = dual_softmax(np.array([[0.50, 0.49], [0.60, 0.10]]))
    assert found.argmax(1).tolist() == [1, 0]


def test_small_temperatures_do_not_overflow() -> None:
    assert np.isfinite(dual_softmax(QUERY, 1e-6)).all()
    assert np.isfinite(qb_norm(QUERY, BANK, 1e-6)).all()


def test_what_cannot_be_re_ranked_is_refused() -> None:
    with pytest.raises(C4CError, match="bank knows"):
        qb_norm(QUERY, BANK[:, :2])
    with pytest.raises(C4CError, match="NaN"):
        dual_softmax(np.array([[np.nan]]))
    with pytest.raises(C4CError, match="temperature"):
        dual_softmax(QUERY, 0)
    with pytest.raises(C4CError, match="k is 9"):
        qb_norm(QUERY, BANK, k=9)
