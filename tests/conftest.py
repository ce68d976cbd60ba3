"""What tests of several rooms look at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import psutil
import pytest
from hypothesis import settings

# Property tests try the same cases at every run, so that a fresh clone sees what the author saw.
# By hand, others and more of them: HYPOTHESIS_PROFILE=drawn make test
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=80)
settings.register_profile("drawn", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def decoders() -> Callable[..., list[psutil.Process]]:
    """Gives the decoder processes below a process, this one if no other is named."""

    def found(pid: int | None = None) -> list[psutil.Process]:
        alive = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ended meanwhile
                    if "c4c.extract.worker" in str(child.cmdline()):
                        alive.append(child)
        return alive

    return found
