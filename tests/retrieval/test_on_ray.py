"""A gallery that a Ray cluster searches gives what this process gives."""

from pathlib import Path

import pytest
from clusters import run_scene

from c4c.core.errors import C4CError
from c4c.retrieval.opening import RetrieveConfig, SearchConfig
from c4c.retrieval.searcher import Searcher
from c4c.retrieval.session import run_evaluate


@pytest.mark.slow
@pytest.mark.shows("retrieve", "--engine", "--address")
def test_a_cluster_finds_what_this_process_finds_and_may_lose_a_process(shapes_cache: Path) -> None:
    found = run_scene(Path(__file__).with_name("search_on_ray.py"), shapes_cache)
    assert int(str(found["pieces"])) > 1
    assert found["typed"] == found["typed here"] != []
    assert found["there"] == found["one lost"] == found["here"] != []


def test_what_a_cluster_does_not_search_is_refused(shapes_cache: Path) -> None:
    with pytest.raises(C4CError, match="pass --engine ray too"):
        SearchConfig(cache=shapes_cache, address="head:6379")
    with pytest.raises(C4CError, match="leave it out for --rerank"):
        Searcher(shapes_cache, engine="ray", rerank="qbnorm")
    with pytest.raises(C4CError, match="leave it out with --evaluate"):
        run_evaluate(RetrieveConfig(cache=shapes_cache, engine="ray"))
