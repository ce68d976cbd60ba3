"""What tests of several rooms look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psutil
import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests name is not remembered beyond them, nor what the user named before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


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
