"""Settings as frozen dataclasses: the one source of names, defaults, helps, choices and bounds.

The command line makes its options of the fields (``c4c.cli.options``), Python takes them as
keywords, and ``check`` refuses in a line what is out of bounds, wherever it came from.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from c4c.core.errors import C4CError
from c4c.core.limits import require_within
from c4c.core.registry import Registry

GROUPS = (
    *("Data", "Question", "Answers", "Frames", "Model", "Training"),
    *("Evaluation", "Output", "Machine", "Advanced"),
)
_KEY = "setting"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of a field beside its name, type and default.

    Attributes:
        help: a few words; in brackets at the end what happens without it.
        group: one of ``GROUPS``.
        choices: the values it may have; none is any. A ``Registry`` refuses others by itself.
        within: the least and the largest number.
        option: its name on the command line, where that is not the field's.
        old: names that it had on the command line before, which go on working.
        metavar: what stands for a value in the help.
    """

    help: str
    group: str
    choices: Iterable[str] = ()
    within: tuple[float, float] | None = None
    option: str = ""
    old: tuple[str, ...] = ()
    metavar: str | None = None


def setting(group: str, help: str, default: Any = MISSING, **more: Any) -> Any:  # noqa: A002
    """A field of a settings dataclass, which is an option of its command too.

    Args:
        group: heading that the option stands under.
        help: as ``Setting`` has it.
        default: the field's; without one the setting is needed.
        more: the rest of ``Setting``.
    """
    return field(default=default, metadata={_KEY: Setting(help, group, **more)})


def changed(kind: type[Any], name: str, default: Any, **more: Any) -> Any:
    """The field ``name`` of ``kind`` with another default (and help), for a dataclass below it."""
    own = next(one for one in fields(kind) if one.name == name)
    return field(default=default, metadata={_KEY: replace(own.metadata[_KEY], **more)})


def same(kind: type[Any], name: str) -> Any:
    """The field ``name`` of ``kind`` as it is, for a dataclass of another command."""
    return changed(kind, name, next(one.default for one in fields(kind) if one.name == name))


def described(kind: type[Any]) -> dict[str, tuple[Field[Any], Setting]]:
    """The fields of ``kind`` that are settings, by name: its own first, then those it inherits."""
    held = [one for one in fields(kind) if _KEY in one.metadata]
    held.sort(key=lambda one: one.name not in kind.__annotations__)
    return {one.name: (one, one.metadata[_KEY]) for one in held}


def option_name(name: str, about: Setting) -> str:
    """How the command line calls a field: ``--max-frames``."""
    return f"--{about.option or name.replace('_', '-')}"


def check(settings: Any) -> None:
    """Refuse values that are no choice or out of bounds.

    Raises:
        C4CError: the first of them, by the name of its option.
    """
    for name, (_, about) in described(type(settings)).items():
        value = getattr(settings, name)
        known = list(about.choices)
        free = value is None or isinstance(about.choices, Registry)
        if known and not free and value not in known:
            option = option_name(name, about)
            raise C4CError(f"{option} is '{value}'. Known: {', '.join(known)}.")
        if about.within is not None:
            require_within(name, value, *about.within)


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
