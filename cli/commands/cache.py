"""``c4c cache``: look into a feature cache, verify, compact, prune and export it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from c4c.cli.options import PATH, GroupedCommand, option

if TYPE_CHECKING:
    from c4c.cache.findings import Finding

FOLDER = click.argument("cache", required=False, type=PATH)


@click.group()
def command() -> None:
    """Look into a feature cache, verify, compact, prune and export it."""


@command.command(cls=GroupedCommand, epilog="c4c cache info c4c-cache/videos --json")
@FOLDER
@option("Output", "--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def info(cache: Path | None, as_json: bool) -> None:
    """Say what a cache holds, how it was made, and which clips failed or are partial."""
    from c4c.cache.inspect import describe
    from c4c.core.terminal import tell

    found = describe(cache)
    if as_json:
        import json

        tell(json.dumps(found))
        return
    tell(f"{found['path']}: {found['dataset']}, {found['bytes'] / 1e6:.1f} MB")
    for name, value in found["fingerprint"].items():
        tell(f"  {name:<14}{value}")
    for split, row in found["splits"].items():
        tell(
            f"{split}: {row['clips']} of {row['expected']} clips, {row['frames']} frames, "
            f"{row['captions']} captions, {len(row['missing'])} without video, "
            f"{len(row['failed'])} failed, {len(row['partial'])} partial"
            + (f", {row['pending']} not extracted yet" if row["pending"] else "")
        )
        if row["decoders"]:
            tell(f"  some of them decoded by {', '.join(row['decoders'])}")
        for failure in row["failed"] + row["partial"]:
            tell(f"  {failure['clip_id']}: {failure['status']}: {failure['message']}")


@command.command(cls=GroupedCommand, epilog="c4c cache verify c4c-cache/videos --repair")
@FOLDER
@option("Data", "--repair", is_flag=True, help="Set damaged shards aside for extraction to redo.")
def verify(cache: Path | None, repair: bool) -> None:
    """Read every byte and compare checksums; names what is not as it should be.

    \b
    Exit status, of several the lowest:
      0  everything is there, and as it was written
      3  something is damaged or missing
      4  something cannot be read now; nothing is known of it
      5  something was made by a newer c4c
      6  something is whole, but does not belong there (another cache's shard,
         a symbolic link, a shard that no manifest names)

    With --repair, files that are proven to be damaged, and no others, get the ending .damaged;
    the same c4c extract as before then makes them anew, and nothing else. CACHE may also be a
    frame cache of train-e2e: the same training then decodes damaged clips again.
    """  # noqa: D301  (click keeps the lines of what begins with a real backspace)
    from c4c.cache.findings import DAMAGED, NOTE
    from c4c.core.progress import say
    from c4c.core.terminal import tell

    codes = set()
    for problem in _problems(cache, repair):
        tell(problem)
        codes.add(problem.code)
    code = min(codes - {NOTE}, default=0)
    if code == 0:
        say("everything is there and every byte is as it was written")
    elif repair and code == DAMAGED:
        say("now run the same command as before (extract, or train-e2e)")
    click.get_current_context().exit(code)


def _problems(cache: Path | None, repair: bool) -> Iterator[Finding]:
    """What is wrong with a feature cache, or with the frame caches in a folder."""
    from c4c.cache.findings import Finding
    from c4c.cache.inspect import damage
    from c4c.training.frame_store import frame_caches, frame_damage

    frames = frame_caches(cache) if cache else []
    for folder in frames:
        yield from map(Finding.of, frame_damage(folder, repair))
    if not frames:
        yield from damage(cache, repair)


@command.command(cls=GroupedCommand, epilog="c4c cache compact c4c-cache/videos")
@FOLDER
@option("Data", "--shard-clips", type=click.IntRange(1, 1 << 20), default=1024, show_default=True,
        help="Clips a shard.")  # fmt: skip
def compact(cache: Path | None, shard_clips: int) -> None:
    """Merge small shards and drop superseded ones. Readers may go on reading meanwhile."""
    from c4c.cache.compact import compact as run
    from c4c.core.progress import say

    done = run(cache, shard_clips)
    say(f"{done.before} shards before, {done.after} now; {done.freed / 1e6:.1f} MB freed")


@command.command(cls=GroupedCommand, epilog="c4c cache prune c4c-cache/videos")
@FOLDER
@option(
    "Data", "--forget", is_flag=True, help="Remove their features, thumbnails and previews too."
)
def prune(cache: Path | None, forget: bool) -> None:
    """Remove the clips whose video does not exist any more; nothing else ever removes clips."""
    from c4c.cache.prune import prune as run
    from c4c.core.progress import say
    from c4c.core.terminal import tell
    from c4c.serve.store import forget as forget_pictures

    done = run(cache, forget)
    for clip in done.clips:
        tell(f"{clip.id}: {clip.path}")
    size = done.freed + forget_pictures(done.forgotten)
    freed = f"; {size / 1e6:.1f} MB freed" if forget else ""
    say(f"{len(done.clips)} clips removed, {done.left} are left{freed}")


@command.command(cls=GroupedCommand, epilog="c4c cache export c4c-cache/videos --out features")
@FOLDER
@option("Data", "--split", help="One split. [all]")
@option("Output", "--format", "kind", type=click.Choice(["npy", "parquet"]), default="npy",
        show_default=True, help="npy: packed arrays; parquet: a row a clip.")  # fmt: skip
@option("Output", "--out", required=True, type=PATH, help="Folder to write.")
def export(cache: Path | None, split: str | None, kind: str, out: Path) -> None:
    """Write features of clips and captions for other programs: packed arrays and tables."""
    from c4c.cache.export import export_cache
    from c4c.core.terminal import tell

    for path in export_cache(cache, split, kind, out):
        tell(str(path))
