"""Settings dataclasses are the one source of options, helps, defaults, choices and bounds."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from c4c.cli.app import COMMANDS
from c4c.cli.options import GroupedCommand, settings_options
from c4c.core.errors import C4CError
from c4c.core.registry import Registry
from c4c.core.settings import GROUPS, changed, check, described, from_keywords, option_name, setting
from c4c.extract.config import ExtractConfig
from c4c.study.config import StudyConfig
from c4c.training.config import TrainE2EConfig, TrainHeadConfig

KINDS = {
    "extract": ExtractConfig,
    "train-head": TrainHeadConfig,
    "train-e2e": TrainE2EConfig,
    "study": StudyConfig,
}
# Settings that a command takes in another way than as an option of their own.
APART = {"name", "settings", "clips"}
# Options that are no setting.
BESIDE = {"extract": {"preset_name", "dry_run", "compiled"}, "study": {"changes", "dry_run"}}


@pytest.mark.parametrize("command", KINDS)
def test_every_setting_is_an_option_with_its_default(command: str) -> None:
    options = {one.name: one for one in COMMANDS[command].params if isinstance(one, click.Option)}
    about = described(KINDS[command])
    assert set(about) == {one.name for one in fields(KINDS[command])} - APART
    assert set(options) == {*about, *BESIDE.get(command, {"preset_name"})}
    for name, (field, setting_of) in about.items():
        option = options[name]
        assert option.opts == [option_name(name, setting_of)]
        assert option.required == (field.default is MISSING)
        if not option.required:
            given = option.type_cast_value(click.Context(COMMANDS[command]), option.default)
            assert given == field.default
        assert list(getattr(option.type, "choices", [])) == list(setting_of.choices)


@pytest.mark.parametrize("command", KINDS)
def test_help_is_grouped_and_ends_with_an_example_that_parses(command: str) -> None:
    words = CliRunner().invoke(COMMANDS[command], ["--help"]).stdout
    places = [words.index(f"\n{group}:\n") for group in GROUPS if f"\n{group}:\n" in words]
    assert places == sorted(places)
    assert len(places) >= 4
    example = words.rpartition("\nExample:\n")[2].split()
    assert example[:2] == ["c4c", command]
    COMMANDS[command].make_context(command, example[2:])


@dataclass(frozen=True, kw_only=True)
class Base:
    many: int = setting("Training", "How many.", 3, within=(1, 9))
    other: str | None = setting("Data", "Something. [nothing]", None)


@dataclass(frozen=True, kw_only=True)
class Toy(Base):
    who: str = setting("Model", "Who.", choices=Registry("who", {"me": "m", "you": "y"}))
    how: str = setting("Model", "How.", "fast", choices=("fast", "slow"))
    many: int = changed(Base, "many", 5, help="How many now.")
    paths: tuple[str, ...] = setting("Data", "Each.", (), option="path")
    part: tuple[int, int] = setting("Machine", "i/n.", (0, 1), option="slice", old=("part",))
    open: bool | None = setting("Machine", "Or not. [found out]", None)
    place: Path | None = setting("Data", "Where.", None)
    loud: bool = setting("Machine", "Loud.", False)

    def __post_init__(self) -> None:
        check(self)


def toy(*words: str) -> Any:
    made: list[Toy] = []

    @click.command(cls=GroupedCommand, epilog="toy --who me")
    @settings_options(Toy, "other")
    def command(**options: Any) -> None:
        made.append(Toy(**options))

    done = CliRunner().invoke(command, list(words))
    if isinstance(done.exception, C4CError):
        raise done.exception
    return made[0] if made else done.output


def test_a_new_field_is_an_option_by_being_there() -> None:
    assert toy("--who", "me") == Toy(who="me")
    given = toy("--who", "you", "--how", "slow", "--many", "2", "--path", "a", "--path", "b",
                "--slice", "1/3", "--place", "x", "--loud", "--no-open")  # fmt: skip
    assert given == Toy(who="you", how="slow", many=2, paths=("a", "b"), part=(1, 3),
                        place=Path("x"), loud=True, open=False)  # fmt: skip
    assert "'they' is not one of 'me', 'you'" in toy("--who", "they")
    words = toy("--help")
    assert "How many now.  [default: 5]" in words
    assert "[default: 0/1]" in words
    assert "--other" not in words


def test_an_old_spelling_works_and_is_not_shown() -> None:
    assert toy("--who", "me", "--part", "2/5").part == (2, 5)
    assert "--part" not in toy("--who", "me", "--help")
    assert "'--slice': 'x' is not of the form i/n" in toy("--who", "me", "--part", "x")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"many": 10}, "--many is 10, expected a number from 1 to 9"),
        ({"how": "well"}, "--how is 'well'. Known: fast, slow."),
    ],
)
def test_what_is_out_of_bounds_is_refused_from_python_too(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(C4CError, match=words):
        from_keywords(Toy, {"who": "me", **settings})


def test_keywords_may_be_texts_and_lists() -> None:
    made = from_keywords(Toy, {"who": "me", "place": "x", "paths": ["a"]})
    assert (made.place, made.paths) == (Path("x"), ("a",))
