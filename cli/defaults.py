"""Defaults of options from ``c4c.toml``, checked as if they had been typed.

A key is an option's own name without the dashes: ``[retrieve] top-k = 20``. The tables of a
command in a group are nested: ``[cache.export] format = "parquet"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from c4c.core.config import FILE
from c4c.core.errors import C4CError, suggestion

_PLACES = ("root", "videos", "captions")


def default_map(content: Mapping[str, Any], commands: Mapping[str, click.Command]) -> Any:
    """The content of ``c4c.toml`` as click's ``default_map``: parameters' names to values.

    Args:
        content: as ``load_config`` gives it.
        commands: all commands by name; only those that have a table are looked at.

    Raises:
        C4CError: a table or key that nothing reads, or a value that its option would refuse.
    """
    found = {}
    for name, table in content.items():
        if name == "datasets":
            _check_datasets(table)
        elif name in commands:
            found[name] = _defaults(commands[name], table, name)
        else:
            known = [*commands, "datasets"]
            raise C4CError(f"{FILE} has a table [{name}]; {suggestion(name, known)}")
    return found


def _defaults(command: click.Command, table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise C4CError(f"{FILE}: {where} must be a table of options, [{where}].")
    inner: Mapping[str, click.Command] = getattr(command, "commands", {})
    own = option_names(command)
    # Names of parameters were the keys once: files that hold them go on working.
    old = {one.name: one for one in command.params if one.name not in own}
    old |= {text[2:]: one for one in own.values() for text in getattr(one, "old", ())}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key in inner:
            found[key] = _defaults(inner[key], value, f"{where}.{key}")
            continue
        parameter = own.get(key) or old.get(key)
        if parameter is None:
            known = [*own, *inner]
            raise C4CError(f"{FILE} [{where}]: unknown key '{key}'; {suggestion(key, known)}")
        if parameter.name in found:
            raise C4CError(f"{FILE} [{where}]: '{key}' is given twice, under two names.")
        found[str(parameter.name)] = _value(command, parameter, value, f"{FILE} [{where}] {key}")
    return found


def option_names(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by their own names, without the dashes."""
    return {
        text.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for text in option.opts
        if text.startswith("--")
    }


def _value(command: click.Command, parameter: click.Parameter, value: Any, where: str) -> Any:
    """The value, or list of them, in the form in which the command line would give it."""
    if isinstance(value, list) and not parameter.multiple:
        raise C4CError(f"{where} is a list, expected one value.")
    each = value if isinstance(value, list) else [value]
    given = [_typed(parameter, one, where) for one in each]
    found = given if parameter.multiple else given[0]
    try:
        parameter.type_cast_value(click.Context(command), found)
    except click.BadParameter as error:
        raise C4CError(f"{where}: {error.message}") from None
    return found


def _typed(parameter: click.Parameter, value: Any, where: str) -> Any:
    """A flag's value as it is; any other as text, so that 2.5 is no whole number here either."""
    if getattr(parameter, "is_flag", False):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise C4CError(f"{where} is {value!r}, expected a text or a number.")
    return str(value)


def _check_datasets(tables: Any) -> None:
    """``[datasets.NAME]``: names from the registry, and texts that say where things lie."""
    from c4c.extract.datasets import DATASETS

    if not isinstance(tables, dict):
        raise C4CError(f"{FILE}: datasets must hold tables, such as [datasets.msrvtt].")
    for name, table in tables.items():
        where = f"{FILE} [datasets.{name}]"
        if name not in DATASETS:
            raise C4CError(f"{where}: unknown dataset; {suggestion(name, DATASETS)}")
        if not isinstance(table, dict):
            raise C4CError(f"{where} must be a table with {', '.join(_PLACES)}.")
        for key, value in table.items():
            if key not in _PLACES:
                raise C4CError(f"{where}: unknown key '{key}'; {suggestion(key, _PLACES)}")
            if not isinstance(value, str):
                raise C4CError(f"{where} {key} is {value!r}, expected a folder or file as text.")
