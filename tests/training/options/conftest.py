"""Runs that tests of options compare with, made once."""

from pathlib import Path
from typing import Any

import pytest
from small_runs import COMMANDS, STILL, Run, Train, run_into


@pytest.fixture(scope="session")
def places(shapes_root: Path, shapes_cache: Path, tmp_path_factory: Any) -> dict[str, list[str]]:
    """Where each command finds its data."""
    decoded = tmp_path_factory.mktemp("options") / "frames"
    data = ["--dataset", "shapes", "--root", str(shapes_root), "--frame-cache", str(decoded)]
    return {
        "train-head": ["--cache", str(shapes_cache)],
        "train-e2e": [*data, "--backbone", "tiny", "--workers", "1", "--coef-lr", "1"],
    }


@pytest.fixture
def train(places: dict[str, list[str]], tmp_path: Path) -> Train:
    """Runs a command with options over the usual ones, each time in a folder of its own."""
    count = 0

    def once(command: str, *options: str) -> Run:
        nonlocal count
        count += 1
        return run_into(tmp_path / f"run{count}", places, command, *options)

    return once


@pytest.fixture(scope="session")
def usual(places: dict[str, list[str]], tmp_path_factory: Any) -> dict[str, Run]:
    """A run of each command as it is, to compare with."""
    here = tmp_path_factory.mktemp("usual")
    return {command: run_into(here / command, places, command) for command in COMMANDS}


@pytest.fixture(scope="session")
def still(places: dict[str, list[str]], tmp_path_factory: Any) -> dict[str, Run]:
    """The same, without moving: where both begin."""
    here = tmp_path_factory.mktemp("still")
    return {command: run_into(here / command, places, command, *STILL) for command in COMMANDS}
