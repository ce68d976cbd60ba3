"""``c4c extract``: videos and captions to a cache of CLIP features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from c4c.cli.options import GroupedCommand, option, settings_options
from c4c.cli.presets import preset_option
from c4c.core.errors import C4CError
from c4c.core.terminal import visible
from c4c.extract.config import ExtractConfig

if TYPE_CHECKING:
    from c4c.cache.findings import Failure


@click.command(cls=GroupedCommand, epilog="c4c extract ~/Videos --cache c4c-cache/videos --fps 2")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@settings_options(ExtractConfig)
@option("Machine", "--dry-run", is_flag=True, help="Say what it would take; extract nothing.")
@click.option("--compile/--no-compile", "compiled", hidden=True, default=False,
              help="As --backend compile.")  # fmt: skip
@preset_option("extract")
def command(folder: Path | None, dry_run: bool, compiled: bool, **options: Any) -> None:
    """Cache per-frame CLIP features of a folder of videos (DIR) or of a dataset.

    Run it again to go on where it stopped, or to add what is new. Another DIR is added to the
    cache; only c4c cache prune removes clips.

    Exit status: 0 all clips have features, 3 some failed, 2 nothing could be done.
    """
    from c4c.core.progress import say
    from c4c.extract.engines.run import run_with_engine
    from c4c.extract.video.decode import HDR

    if compiled and options["backend"] is None:
        options["backend"] = "compile"
    config = ExtractConfig(**_with_folder(folder, options))
    if dry_run:
        _tell(config)
        return
    result = run_with_engine(config)
    _name(result.failed, result.cache)
    _name([note for note in result.noted if note.status == "partial"], result.cache)
    hdr = [note.clip_id for note in result.noted if HDR in note.message]
    if hdr:
        say(f"  {HDR} taken as SDR: {len(hdr)} of {result.clips} clips (first '{hdr[0]}')")
    more = "" if result.complete else "; other slices are still to be done"
    say(f"{result.cache}: {result.clips} of {result.expected} clips have features{more}")
    if result.complete and not result.clips:
        raise C4CError("No clip could be extracted; the lines above say why.")
    click.get_current_context().exit(3 if result.failed else 0)


def _tell(config: ExtractConfig) -> None:
    """What an extraction would take, in three lines."""
    from c4c.core.progress import duration
    from c4c.extract.forecast import forecast
    from c4c.extract.pipeline import cache_folder

    found = forecast(config)
    known = f", by the lengths of {found.known}" if found.known < found.clips else ""
    click.echo(f"{found.clips} clips to extract, {duration(found.seconds)} of video{known}")
    if found.rate is None:
        click.echo("time: cannot be told, as no clip that was tried gave a frame")
    elif found.clips:
        origin = "measured on the first clip" if found.measured else "as in the last run like it"
        spent = duration(found.seconds / found.rate.speed)
        click.echo(f"time: about {spent}, {found.rate.speed:.1f}x real time ({origin})")
        size = f"{found.size / 1e6:.1f} MB"
        click.echo(f"disk: {size} of features in {visible(str(cache_folder(config)))}")


def _name(clips: Sequence[Failure], cache: Path) -> None:
    """A line for each of the first clips of which something is to be said."""
    from c4c.core.progress import say

    for clip in clips[:20]:
        say(f"  {clip.clip_id}: {clip.status}: {clip.message}")
    if len(clips) > 20:
        say(f"  … and {len(clips) - 20} more: c4c cache info {cache}")


def _with_folder(folder: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options, where DIR stands for ``--dataset folder --root DIR``.

    Raises:
        C4CError: neither DIR nor a dataset, or both.
    """
    typed = click.get_current_context().get_parameter_source
    if folder is None:
        if typed("dataset") is ParameterSource.DEFAULT:
            raise C4CError("Pass a folder of videos, c4c extract DIR, or --dataset NAME.")
        return options
    given = typed("dataset") is ParameterSource.COMMANDLINE
    if given and options["dataset"] != "folder":
        raise C4CError(f"'{folder}' is taken as a folder of videos; of a dataset it is --root.")
    if options["root"] and typed("root") is ParameterSource.COMMANDLINE:
        raise C4CError(f"Pass the folder once: '{folder}', or --root {options['root']}.")
    return {**options, "dataset": "folder", "root": folder, "videos": options["videos"] or folder}
