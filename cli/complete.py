"""Completion of options' values in a shell: names out of tables, looked up when Tab is pressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(table: str) -> Complete:
    """Completes the names in a table.

    Args:
        table: ``module:attribute`` of a registry, imported when it is asked for.
    """

    def complete(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
        module, _, attribute = table.partition(":")
        return _beginning(getattr(import_module(module), attribute), begun)

    return complete


def backbones(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Completes the names of open_clip's models, and c4c's own two."""
    import open_clip

    return _beginning(["tiny", "auto", *open_clip.list_models()], begun)


def _beginning(known: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.lower().startswith(begun.lower())]
