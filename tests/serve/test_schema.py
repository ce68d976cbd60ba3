"""The API against its own description: drawn requests, right and wrong ones."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis")
generation = pytest.importorskip("schemathesis.generation")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

# A description cannot say that a search needs a sentence or a video.
MAY_BE_REFUSED = [checks.positive_data_acceptance]

DRAWN = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"], ids=["right", "wrong"])
def test_answers_to_drawn_requests_are_as_described(address: str, mode: str) -> None:
    """Statuses, kinds and bodies; a request that breaks the description is not answered with 200.

    They go through a real socket, as strangers' requests do.
    """
    schema = schemathesis.openapi.from_url(f"{address}/api/openapi.json")
    tried = 0
    for operation in schema.get_all_operations():
        kind = getattr(generation.GenerationMode, mode)

        @DRAWN
        @given(case=operation.ok().as_strategy(generation_mode=kind))
        def check(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(excluded_checks=MAY_BE_REFUSED)

        if mode == "POSITIVE" or operation.ok().body or list(operation.ok().iter_parameters()):
            check()
    assert tried > 40
