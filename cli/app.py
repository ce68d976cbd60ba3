"""The command line: a table of commands, each in a file of ``commands/`` loaded when asked for.

``c4c --help`` imports nothing but click: the one-line helps stand in the table here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from c4c.core.errors import C4CError, Interrupted, Requeue, suggestion
from c4c.core.progress import say
from c4c.core.registry import Registry
from c4c.core.terminal import READER_LEFT, ReaderLeft, leave, prepare_streams
from c4c.core.version import __version__

HELP = {
    "extract": "Videos to cached CLIP features (HDF5).",
    "train-head": "Train a temporal head on cached features.",
    "train-e2e": "Train head and backbone together, from video frames.",
    "retrieve": "Find moments for sentences, or evaluate a head.",
    "index": "Make, refresh, compact or verify the gallery of a cache.",
    "serve": "A page and an HTTP API to search caches.",
    "mcp": "Search as tools of an assistant, over stdin and stdout.",
    "cache": "Look into a feature cache, verify and export it.",
    "backbones": "What models there are, and how fast they are here.",
    "dataset": "Check a dataset's files, or make the synthetic one.",
    "study": "A grid of trainings, with intervals and a report.",
    "compare": "Compare two evaluations query by query.",
    "import-checkpoint": "Read a checkpoint of the authors' code or OpenAI.",
    "export-checkpoint": "Write a checkpoint under the authors' names.",
    "demo": "The whole street on synthetic videos, in minutes.",
    "doctor": "What is installed, what is missing, how to get it.",
}
COMMANDS = Registry(
    "command",
    {name: f"c4c.cli.commands.{name.replace('-', '_')}:command" for name in HELP},
)


# Other names of commands, in no list: what people type first.
ALIASES = {"search": "retrieve"}


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order: the street's."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or none."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        found: click.Command = COMMANDS[name]
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; of one that does not exist, what may be meant.

        An alias goes by its command's name, so that it has that one's defaults in c4c.toml.
        """
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"There is no command '{args[0]}'; {suggestion(args[0], [*HELP, *ALIASES])}")
        name, command, rest = super().resolve_command(ctx, args)
        return ALIASES.get(name or "", name), command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(HELP.items()))


class ConfiguredGroup(LazyGroup):
    """The top group: options that were not given fall back to ``c4c.toml``."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read the options; ``--help`` is printed here."""
        with _reader_may_leave():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with defaults from ``c4c.toml`` when the file is there."""
        if os.path.exists("c4c.toml"):
            from c4c.cli.defaults import default_map
            from c4c.core.config import load_config

            ctx.default_map = {**default_map(load_config(), COMMANDS), **(ctx.default_map or {})}
        with _reader_may_leave():
            return super().invoke(ctx)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """What click prints itself may find no reader; click would exit with status 1."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderLeft from None


@click.group(cls=ConfiguredGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="c4c")
def group() -> None:
    """Find video clips by what a sentence says (CLIP4Clip on cached CLIP features)."""


def main() -> None:
    """Run the command line: user errors are one line and exit 2, Ctrl-C 130, SIGTERM 75."""
    prepare_streams()
    leave(_run())


def _run() -> int:
    """Run the command; what it raises is a line, and a status."""
    try:
        code = group.main(standalone_mode=False, prog_name="c4c")
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        _explain_usage(error)
        return 2
    except Requeue as stop:
        _complain(str(stop))
        return os.EX_TEMPFAIL
    except Interrupted as stop:
        _complain(str(stop))
        return 130
    except C4CError as error:
        _complain(str(error))
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        _complain("stopped; run the same command again to go on")
        return 130
    except ReaderLeft:
        return READER_LEFT
    except OSError as error:
        # What no command foresaw: a disk that fails or is full, too many open files.
        place = f": {error.filename}" if error.filename else ""
        _complain(f"{error.strerror or error}{place}; fix that, then run the same command again")
        return 2


def _explain_usage(error: click.ClickException) -> None:
    """A wrong option is one line; a command without any is answered with its help."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "c4c"
    _complain(f"{error.format_message()} See: {path} --help")


def _complain(message: str) -> None:
    say(f"c4c: {' '.join(message.split())}")
