"""Every option of every command has a test that shows what it does.

Such a test carries ``@pytest.mark.shows("extract", "--fps", "--max-frames")``. The markers are
read from the files, so this works whichever tests are run.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from c4c.cli.app import COMMANDS

TESTS = Path(__file__).resolve().parents[1]


def options(name: str, command: click.Command) -> Iterator[tuple[str, str, click.Option]]:
    """(command, option, what click knows of it) of a command and of those below it."""
    for key, inner in getattr(command, "commands", {}).items():
        yield from options(f"{name} {key}", inner)
    for one in command.params:
        if isinstance(one, click.Option):
            yield name, one.opts[0], one


ALL = {
    (command, option): known
    for name in COMMANDS
    for command, option, known in options(name, COMMANDS[name])
}


def shown() -> dict[tuple[str, str], list[str]]:
    """The tests that show each (command, option)."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.shows":
                    command, *names = map(ast.literal_eval, mark.args)
                    for name in names:
                        found[command, name].append(f"{path.relative_to(TESTS)}::{node.name}")
    return dict(found)


SHOWN = shown()


@pytest.mark.parametrize(("command", "option"), list(ALL), ids=map(" ".join, ALL))
def test_an_option_has_a_test_that_shows_its_effect(command: str, option: str) -> None:
    assert SHOWN.get((command, option)), (
        f"no test says what {option} of c4c {command} does: write one, and mark it with "
        f'@pytest.mark.shows("{command}", "{option}")'
    )


def test_no_test_claims_to_show_an_option_that_does_not_exist() -> None:
    assert {key: tests for key, tests in SHOWN.items() if key not in ALL} == {}


@pytest.mark.parametrize(("command", "option"), list(ALL), ids=map(" ".join, ALL))
def test_an_option_says_in_its_help_what_it_is(command: str, option: str) -> None:
    words = ALL[command, option].help or ""
    assert len(words.partition("[")[0].strip()) > 3
