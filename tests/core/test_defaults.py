"""``c4c.toml``: options under their own names, checked as if they had been typed."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from c4c.cli.app import COMMANDS, group
from c4c.cli.defaults import default_map, option_names
from c4c.core.config import check_part, dataset_source
from c4c.core.errors import C4CError


def leaves() -> list[tuple[str, click.Command]]:
    """Every command that does something, with its place: ``("cache info", …)``."""

    def below(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
        inner = getattr(command, "commands", {})
        return [
            leaf for key, one in inner.items() for leaf in below(f"{name} {key}", one)
        ] or [(name, command)]  # fmt: skip

    return [leaf for name in COMMANDS for leaf in below(name, COMMANDS[name])]


OPTIONS = [
    (place, name, option) for place, one in leaves() for name, option in option_names(one).items()
]


def some_value(option: click.Option) -> Any:
    """A value that the option takes, other than its default where there is a choice."""
    if option.is_flag:
        return True
    if isinstance(option.type, click.Choice):
        return option.type.choices[-1]
    return {"integer range": 7, "integer": 7, "float": 0.5, "float range": 0.5, "i/n": "1/3"}.get(
        option.type.name, "words"
    )


@pytest.mark.parametrize(
    ("place", "name", "option"), OPTIONS, ids=[f"{place} --{name}" for place, name, _ in OPTIONS]
)
def test_every_option_is_settable_under_its_own_name(
    place: str, name: str, option: click.Option
) -> None:
    table: dict[str, Any] = {name: some_value(option)}
    for part in reversed(place.split()):
        table = {part: table}
    found = default_map(table, COMMANDS)
    command = click.Command("leaf", params=[option], callback=lambda **given: given)
    for part in place.split():
        found = found[part]
    given = command.main([], default_map=found, standalone_mode=False)[option.name]
    wanted = some_value(option)
    shown = given[0] if option.multiple else given
    assert shown == ((1, 3) if wanted == "1/3" else wanted) or str(shown) == str(wanted)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[retrieve]\ntopk = 3", "[retrieve]: unknown key 'topk'; did you mean 'top-k'?"),
        ("[doctor]\ncolour = 1", "unknown key 'colour'; expected one of json."),
        ("[extrakt]\nfps = 2", "table [extrakt]; did you mean 'extract'?"),
        ("retrieve = 3", "retrieve must be a table"),
        ("[cache.exprt]\nformat = 'npy'", "[cache]: unknown key 'exprt'; did you mean 'export'?"),
        ("[cache.export]\nformat = 'nix'", "[cache.export] format: 'nix' is not one of"),
        ("[train-head]\nbatch = 2.5", "[train-head] batch: '2.5' is not a valid integer"),
        ("[train-head]\nbatch = true", "[train-head] batch is True"),
        ("[train-head]\nhead = ['meanP']", "head is a list, expected one value"),
        ("[extract]\nshard-slice = '3'", "[extract] shard-slice: '3' is not of the form i/n"),
        ("[retrieve]\ntop-k = 3\ntop_k = 4", "'top_k' is given twice"),
        ("[datasets.lsmc]\nroot = 'x'", "[datasets.lsmc]: unknown dataset; did you mean 'lsmdc'?"),
        ("[datasets.lsmdc]\nroots = 'x'", "unknown key 'roots'; did you mean 'root'?"),
        ("[datasets.lsmdc]\nroot = 3", "[datasets.lsmdc] root is 3"),
        ("datasets = 3", "datasets must hold tables"),
        ("[datasets]\nlsmdc = '/data'", "[datasets.lsmdc] must be a table"),
    ],
)
def test_what_nothing_reads_or_no_option_takes_is_an_error(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever command is run: the file is wrong for all of them."""
    monkeypatch.chdir(tmp_path)
    Path("c4c.toml").write_text(text)
    done = CliRunner().invoke(group, ["compare", "a.json", "b.json"])
    assert isinstance(done.exception, C4CError)
    assert words in str(done.exception)
    assert str(done.exception).startswith("c4c.toml")


def test_names_of_parameters_were_keys_once_and_still_are() -> None:
    old = {"retrieve": {"top_k": 3, "json_path": "a"}, "extract": {"splits": ["a", "b"]}}
    new = {"retrieve": {"top-k": 3, "json": "a"}, "extract": {"split": ["a", "b"]}}
    assert default_map(old, COMMANDS) == default_map(new, COMMANDS)


def test_one_word_for_an_option_that_repeats_is_one_value_and_no_list_of_letters() -> None:
    assert default_map({"extract": {"split": "train"}}, COMMANDS) == {
        "extract": {"splits": ["train"]}
    }


def test_the_command_line_counts_more_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c4c.toml").write_text('[train-head]\nhead = "meanP"\ncache = "here"\n')
    done = CliRunner().invoke(group, ["train-head", "--cache", "there"])
    assert "there is not a feature cache" in str(done.exception)
    done = CliRunner().invoke(group, ["train-head"])
    assert "here is not a feature cache" in str(done.exception)


def test_places_of_datasets_are_read_from_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is another one than before in the same process."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c4c.toml").write_text(f'[datasets.lsmdc]\nroot = "/data/{name}"\n')
        monkeypatch.chdir(tmp_path / name)
        assert dataset_source("lsmdc").root == Path("/data", name)


@pytest.mark.parametrize("part", [(16, 16), (17, 16), (0, 0), (1, 0), (-1, 4)])
def test_a_part_that_is_none_is_refused_and_the_counting_told(part: tuple[int, int]) -> None:
    with pytest.raises(C4CError, match=r"--slice .*parts are counted from 0"):
        check_part("--slice", part)
    check_part("--slice", (0, 16))
    check_part("--slice", (15, 16))
