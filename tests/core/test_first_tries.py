"""What people type first works, or is answered with what they mean."""

import click
import pytest
from click.shell_completion import ShellComplete

from c4c.cli.app import group


def completions(*words: str) -> list[str]:
    """What Tab offers behind these words, the last of which is begun."""
    shell = ShellComplete(group, {}, "c4c", "_C4C_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("extarct", "extract"),
        ("serach", "search"),
        ("retreive", "retrieve"),
        ("trainhead", "train-head"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_one_that_may_be_meant(
    typed: str, meant: str
) -> None:
    with pytest.raises(click.UsageError, match=rf"no command '{typed}'; did you mean '{meant}'\?"):
        group.main([typed, "x"], standalone_mode=False)


def test_a_word_like_no_command_is_answered_with_all_of_them() -> None:
    with pytest.raises(click.UsageError, match="no command 'zzz'; expected one of .*extract"):
        group.main(["zzz"], standalone_mode=False)


def test_search_is_retrieve_with_its_defaults() -> None:
    context = click.Context(group)
    name, command, rest = group.resolve_command(context, ["search", "a dog"])
    assert (name, rest) == ("retrieve", ["a dog"])
    assert command is group.get_command(context, "retrieve")


def test_values_are_completed_out_of_their_tables() -> None:
    assert completions("extract", "--dataset", "ms") == ["msrvtt", "msvd"]
    assert completions("train-head", "--head", "seq") == ["seqLSTM", "seqTransf"]
    found = completions("extract", "--backbone", "vit-b-32")
    assert {"ViT-B-32", "ViT-B-32-quickgelu"} <= set(found)
    assert completions("extract", "--backbone", "ti") == ["tiny"]
