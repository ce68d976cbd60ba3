"""Requests to stop: acted on, or handed on by whoever had just ended."""

import os
import signal

import pytest

from c4c.core.errors import Interrupted, Requeue
from c4c.core.signals import StopRequest


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, Requeue), (signal.SIGINT, Interrupted)]
)
def test_a_request_that_came_too_late_for_one_step_stops_those_that_follow(
    number: signal.Signals, kind: type[Interrupted]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped by {number.name}") as caught, StopRequest():
        os.kill(os.getpid(), number)
    assert caught.type is kind
    assert signal.getsignal(number) is before


def test_an_error_within_is_not_hidden_by_the_request() -> None:
    with pytest.raises(ValueError, match="the work's own"), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.name == "SIGTERM"
        raise ValueError("the work's own")


def test_without_a_request_nothing_happens() -> None:
    with StopRequest() as stop:
        pass
    assert stop.name == ""
