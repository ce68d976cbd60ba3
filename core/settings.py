"""Settings as frozen dataclasses: made of keywords, as the command line or Python gives them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

T = TypeVar("T")


def from_keywords(kind: type[T], given: Mapping[str, Any]) -> T:
    """Settings of ``kind``; paths may be given as text, tuples as lists.

    Raises:
        TypeError: a name that ``kind`` does not have, or one that it needs is missing.
        C4CError: a value that it refuses.
    """
    hints = get_type_hints(kind)
    return kind(**{name: _fitted(value, hints.get(name)) for name, value in given.items()})


def _fitted(value: Any, hint: Any) -> Any:
    kinds = {hint, *get_args(hint)}
    if Path in kinds and isinstance(value, str | os.PathLike):
        return Path(value)
    if getattr(hint, "__origin__", None) is tuple and isinstance(value, list):
        return tuple(value)
    return value


def parameters(kind: type[Any], leaving: tuple[str, ...] = ()) -> list[inspect.Parameter]:
    """The fields of ``kind`` as keyword parameters of a function, all but ``leaving``."""
    own = [one for one in fields(kind) if one.name not in leaving]
    return [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=one.type,
            default=_default(one),
        )
        for one in sorted(own, key=lambda one: _default(one) is not inspect.Parameter.empty)
    ]


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return inspect.Parameter.empty if field.default_factory is MISSING else field.default_factory()
