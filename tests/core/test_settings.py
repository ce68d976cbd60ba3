"""Settings dataclasses are the one source of options, helps, defaults, choices and bounds."""

import shlex
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from c4c.cli.app import COMMANDS
from c4c.cli.demo import DemoConfig
from c4c.cli.options import GroupedCommand, settings_options
from c4c.core.errors import C4CError
from c4c.core.registry import Registry
from c4c.core.settings import GROUPS, changed, check, described, from_keywords, option_name, setting
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import MomentsRecipe, Recipe
from c4c.retrieval.asking import Ask
from c4c.retrieval.filters import Filter
from c4c.retrieval.opening import RetrieveConfig
from c4c.retrieval.wanted import Wanted
from c4c.serve.config import ServeConfig
from c4c.study.config import StudyConfig
from c4c.training.config import TrainE2EConfig, TrainHeadConfig

KINDS: dict[str, tuple[type, ...]] = {
    "extract": (ExtractConfig,),
    "train-head": (TrainHeadConfig,),
    "train-e2e": (TrainE2EConfig,),
    "retrieve": (RetrieveConfig, Ask, Wanted, Filter),
    "serve": (ServeConfig,),
    "study": (StudyConfig,),
    "demo": (DemoConfig,),
    "dataset make shapes": (Recipe,),
    "dataset make shapes-unseen": (Recipe,),
    "dataset make shapes-moments": (MomentsRecipe,),
}
# Settings that a command takes in another way than as an option of their own.
APART = {"name", "settings", "clips", "caches", "k", "where", "sentences", "id", "version"}
# Options that are no setting.
BESIDE = {
    "extract": {"preset_name", "dry_run", "compiled"},
    "train-head": {"preset_name"},
    "train-e2e": {"preset_name"},
    "retrieve": {
        *("preset_name", "queries", "interactive", "texts", "out", "export", "cut", "exact"),
        *("evaluate", "moments", "json_path", "trec", "similarity"),
    },
    "study": {"changes", "dry_run"},
    "demo": {"json_path"},
    "dataset make shapes": {"root"},
    "dataset make shapes-unseen": {"root"},
    "dataset make shapes-moments": {"root"},
}


def leaves(name: str, command: click.Command) -> dict[str, click.Command]:
    """The commands that do something, by their whole names."""
    inner = getattr(command, "commands", {})
    found = {} if inner else {name: command}
    for key, one in inner.items():
        found |= leaves(f"{name} {key}", one)
    return found


LEAVES = {key: one for name in COMMANDS for key, one in leaves(name, COMMANDS[name]).items()}


@pytest.mark.parametrize("command", KINDS)
def test_every_setting_is_an_option_with_its_default(command: str) -> None:
    options = {one.name: one for one in LEAVES[command].params if isinstance(one, click.Option)}
    kinds = KINDS[command]
    about = {name: one for kind in kinds for name, one in described(kind).items()}
    assert set(about) == {one.name for kind in kinds for one in fields(kind)} - APART
    assert set(options) == {*about, *BESIDE.get(command, ())}
    for name, (field, setting_of) in about.items():
        option = options[name]
        assert option.opts == [option_name(name, setting_of)]
        assert option.required == (field.default is MISSING)
        if not option.required:
            given = option.type_cast_value(click.Context(LEAVES[command]), option.default)
            assert given == field.default
        assert list(getattr(option.type, "choices", [])) == list(setting_of.choices)


@pytest.mark.parametrize("command", LEAVES)
def test_help_is_grouped_and_ends_with_an_example_that_parses(command: str) -> None:
    words = CliRunner().invoke(LEAVES[command], ["--help"]).stdout
    assert "\nOptions:\n" not in words
    assert "\\b" not in words
    places = [words.index(f"\n{group}:\n") for group in GROUPS if f"\n{group}:\n" in words]
    assert places == sorted(places)
    assert len(places) >= 2
    example = shlex.split(words.rpartition("\nExample:\n")[2])
    assert example[: len(command.split()) + 1] == ["c4c", *command.split()]
    LEAVES[command].make_context(command, example[len(command.split()) + 1 :])


def test_two_commands_give_an_option_of_one_name_one_help() -> None:
    """What index, serve and mcp take of a search they take as it is there."""
    helps = {
        command: {one.name: one.help for one in LEAVES[command].params if hasattr(one, "help")}
        for command in ("retrieve", "index", "serve", "mcp")
    }
    for command in ("index", "serve", "mcp"):
        for name in {"checkpoint", "pretrained", "device", "window", "hop"} & set(helps[command]):
            assert helps[command][name] == helps["retrieve"][name], command


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
