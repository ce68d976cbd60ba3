"""Writes ``docs/reference/commands.md``: every option of every command, as ``--help`` has it.

    python .ci/reference.py > docs/reference/commands.md

A test compares the page with this, so it cannot fall behind the commands.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from c4c.cli.app import COMMANDS
from c4c.cli.options import GroupedCommand, Registered

_HEAD = """# Commands and their options

Written by `make reference` from the commands themselves; `c4c COMMAND --help` says the same. Every
option can have another default in `c4c.toml`, in the table of its command, under its own name
without the dashes: `top-k = 20`. A flag takes `true`, an option that may be repeated a list; the
tables of `cache` and `dataset` are nested, as `[cache.export]`.
"""


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The commands below this one that do something, each with its whole name."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for key, one in command.commands.items():
        yield from leaves(f"{name} {key}", one)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name in COMMANDS:
        parts += [section(*leaf) for leaf in leaves(name, COMMANDS[name])]
    return "\n".join(parts)


def section(name: str, command: click.Command) -> str:
    """One command: how it is called, what it does, and its options."""
    arguments = [one.make_metavar(click.Context(command)) for one in command.params
                 if isinstance(one, click.Argument)]  # fmt: skip
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if isinstance(command, GroupedCommand):
        options = command.grouped(options)
    lines = [
        f"## c4c {' '.join([name, *arguments])}",
        "",
        inspect.cleandoc(command.help or "").replace("\b\n", ""),
        "",
    ]
    lines += ["| option | value | default | |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *map(row, options)]) + "\n"


def row(option: click.Option) -> str:
    """One option; what its help has in brackets is its default."""
    words, default = re.fullmatch(r"(.*?)\s*(?:\[(.*)\])?", option.help or "").groups()
    plain = option.default if isinstance(option.default, str | int | float) else None
    if plain is not None and not option.is_flag and default is None:
        default = f"`{plain}`"
    if option.required:
        default = "required"
    names = ", ".join(f"`{text}`" for text in [*option.opts, *option.secondary_opts])
    cells = [names, value(option), default or "", words]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def value(option: click.Option) -> str:
    """What an option takes."""
    kind = option.type
    if option.is_flag:
        return ""
    if isinstance(kind, Registered):  # a new head changes no page
        return f"a {kind.kind}"
    if isinstance(kind, click.Choice):
        return " or ".join(f"`{one}`" for one in kind.choices)
    named = option.metavar or kind.name.replace(" range", "")
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    if least is not None and most is not None:
        return f"{named}, {least} to {most}"
    return named if least is None else f"{named}, at least {least}"


if __name__ == "__main__":
    print(page(), end="")
