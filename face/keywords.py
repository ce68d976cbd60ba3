"""Functions that take the settings of a command as keywords."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from c4c.core.settings import parameters

F = TypeVar("F", bound=Callable[..., Any])


def takes(kind: type[Any], *leaving: str) -> Callable[[F], F]:
    """Show the fields of a settings dataclass as keywords of a function that has ``**settings``.

    ``help()``, notebooks and ``inspect.signature`` then list each name with its default, which
    stands in the dataclass alone.

    Args:
        kind: the settings.
        leaving: fields that the function fills itself.
    """

    def shown(function: F) -> F:
        plain = inspect.signature(function)
        own = [one for one in plain.parameters.values() if one.kind is not one.VAR_KEYWORD]
        settings = parameters(kind, (*leaving, *(one.name for one in own)))
        function.__signature__ = plain.replace(parameters=[*own, *settings])  # type: ignore[attr-defined]
        return function

    return shown
