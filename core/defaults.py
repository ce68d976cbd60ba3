"""Defaults of options from ``c4c.toml``, as if they had been typed on the command line."""

from __future__ import annotations

from typing import Any

import click

from c4c.errors import C4CError


def option_defaults(command: click.Command, table: Any, where: str) -> dict[str, Any]:
    """A command's table as click's ``default_map`` takes it.

    Args:
        command: whose options they are; the tables of a group hold those of its commands.
        table: names of options (``max_frames``) and their values.
        where: the file and the table, for messages.

    Raises:
        C4CError: the command has no such option, or the option takes no such value.
    """
    if not isinstance(table, dict):
        raise C4CError(f"{where} is a value, expected a table of options.")
    if isinstance(command, click.Group):
        known: dict[str, Any] = dict(command.commands)
        read: Any = option_defaults
    else:
        known = {str(one.name): one for one in command.params if isinstance(one, click.Option)}
        read = _value
    for name in table:
        if name not in known:
            raise C4CError(f"{where} has no '{name}'; known are {', '.join(sorted(known))}.")
    return {name: read(known[name], value, f"{where} {name}") for name, value in table.items()}


def _value(option: click.Option, value: Any, where: str) -> Any:
    """A value as text, which the option converts and checks as ever; several where it takes them.

    Truth values stay what they are: that is how flags are given.
    """
    several = option.multiple or option.nargs != 1
    if isinstance(value, list) != several:
        raise C4CError(f"{where} takes {'a list of values' if several else 'one value'}.")
    if several:
        return [_text(one, where) for one in value]
    return _text(value, where)


def _text(value: Any, where: str) -> str | bool:
    if not isinstance(value, str | int | float) or "\0" in str(value):
        raise C4CError(f"{where} must be a text, a number, true or false.")
    return value if isinstance(value, bool) else str(value)
