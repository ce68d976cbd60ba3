"""Options of commands, made of settings dataclasses, and help that shows them in groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import MISSING
from itertools import groupby
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click

from c4c.cli.complete import backbones, names
from c4c.core.registry import Registry
from c4c.core.settings import GROUPS, Setting, described, option_name

PATH = click.Path(path_type=Path)


class Slice(click.ParamType):  # type: ignore[type-arg]
    """``i/n``: part i of n of the work, counted from 0 (``c4c.core.config.check_part``)."""

    name = "i/n"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Two numbers, or a usage error."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(value))
        if not found:
            self.fail(f"'{value}' is not of the form i/n, such as 0/8", param, ctx)
        return int(found[1]), int(found[2])


class Registered(click.Choice):  # type: ignore[type-arg]
    """The names of a registry."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(list(registry))
        self.kind = registry.kind


class GroupedOption(click.Option):
    """An option that stands under a heading of the help, and may have old names that do not.

    Args:
        words: as ``click.Option`` takes them.
        group: the heading.
        old: names that go on working, with their dashes.
        more: as ``click.Option`` takes it.
    """

    def __init__(
        self, *words: Any, group: str = "Advanced", old: Sequence[str] = (), **more: Any
    ) -> None:
        super().__init__(*words, **more)
        self.group = group
        self.old = tuple(old)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Take the old names too; help and errors show the others."""
        super().add_to_parser(parser, ctx)
        if self.old:
            hidden = copy(self)
            hidden.opts, hidden.old = list(self.old), ()
            hidden.add_to_parser(parser, ctx)


def group_of(option: click.Option) -> str:
    """The heading that an option stands under; ``--help`` stands in the last one."""
    return getattr(option, "group", GROUPS[-1])


class GroupedCommand(click.Command):
    """A command whose help shows options by group, what most people need first."""

    @staticmethod
    def grouped(options: list[click.Option]) -> list[click.Option]:
        """Options by group, and in each those first that are needed."""
        places = {group: place for place, group in enumerate(GROUPS)}
        return sorted(options, key=lambda one: (places[group_of(one)], not one.required))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section a group."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        for group, own in groupby(self.grouped(options), group_of):
            records = (one.get_help_record(ctx) for one in own)
            with formatter.section(group):
                formatter.write_dl([one for one in records if one is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """An example, as it would be typed."""
        if self.epilog:
            with formatter.section("Example"):
                formatter.write_text(f"\b\n{self.epilog}")


# What completes values that are no choice; those of a choice click knows.
_COMPLETE = {"--backbone": backbones, "--dataset": names("c4c.extract.datasets:DATASETS")}


def option(group: str, *names: str, **more: Any) -> Callable[[Callable[..., Any]], Any]:
    """An option that is no setting, under a heading of the help."""
    return click.option(*names, cls=GroupedOption, group=group, **more)


def settings_options(
    kind: type[Any], *leaving: str, only: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Any]:
    """Give a command an option for every setting of ``kind``.

    Args:
        kind: the settings dataclass.
        leaving: settings that the command takes in another way.
        only: the settings that it takes; none named is all.
    """
    hints = get_type_hints(kind)
    taken = set(only or described(kind)) - set(leaving)
    own = {name: one for name, one in described(kind).items() if name in taken}

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, (field, about) in reversed(own.items()):
            needed = field.default is MISSING
            words: dict[str, Any] = {"required": True} if needed else {"default": field.default}
            words |= _words(about, hints[name], field.default)
            words["shell_complete"] = _COMPLETE.get(option_name(name, about))
            own_name = option_name(name, about)
            names = (_with_opposite(own_name) if hints[name] == _OPEN_FLAG else own_name, name)
            old = [f"--{text}" for text in about.old]
            click.option(*names, cls=GroupedOption, group=about.group, old=old, **words)(command)
        return command

    return with_options


_OPEN_FLAG = bool | None  # a flag that can also be left open


def _with_opposite(option: str) -> str:
    return f"{option}/--no-{option.removeprefix('--')}"


def _words(about: Setting, hint: Any, default: Any) -> dict[str, Any]:
    """What click is told of an option: its type, help, and whether the help shows the default."""
    words: dict[str, Any] = {"help": about.help, "metavar": about.metavar}
    if hint in (bool, _OPEN_FLAG):
        return {**words, "is_flag": True}
    says = about.help.endswith("]")  # what happens without it stands there in words
    words["show_default"] = default not in (MISSING, None, ()) and not says
    if getattr(hint, "__origin__", None) is not tuple:
        return {**words, "type": _type(about, hint)}
    if get_args(hint) == (int, int):
        return {**words, "type": Slice(), "default": "/".join(map(str, default))}
    return {**words, "type": get_args(hint)[0], "multiple": True}


def _type(about: Setting, hint: Any) -> Any:
    if isinstance(about.choices, Registry):
        return Registered(about.choices)
    if about.choices:
        return click.Choice(list(about.choices))
    kinds = [one for one in (get_args(hint) or (hint,)) if one is not type(None)]
    return PATH if kinds == [Path] else kinds[0]
