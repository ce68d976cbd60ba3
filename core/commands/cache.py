"""``c4c cache``: look into a feature cache, verify, compact and export it."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.argument("cache", required=False, type=click.Path(path_type=Path))


@click.group()
def command() -> None:
    """Look into a feature cache, verify, compact and export it."""


@command.command()
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def info(cache: Path | None, as_json: bool) -> None:
    """Say what a cache holds, how it was made, and which clips failed."""
    from c4c.extract.inspect import describe

    found = describe(cache)
    if as_json:
        import json

        click.echo(json.dumps(found))
        return
    click.echo(f"{found['path']}: {found['dataset']}, {found['bytes'] / 1e6:.1f} MB")
    for name, value in found["fingerprint"].items():
        click.echo(f"  {name:<14}{value}")
    for split, row in found["splits"].items():
        click.echo(
            f"{split}: {row['clips']} of {row['expected']} clips, {row['frames']} frames, "
            f"{row['captions']} captions, {len(row['missing'])} without video, "
            f"{len(row['failed'])} failed, {row['partial']} partial"
        )
        for failure in row["failed"]:
            click.echo(f"  {failure['clip_id']}: {failure['status']}: {failure['message']}")


@command.command()
@FOLDER
@click.option("--repair", is_flag=True, help="Set damaged shards aside for extraction to redo.")
def verify(cache: Path | None, repair: bool) -> None:
    """Read every byte and compare checksums; names what is damaged. Exit 3 if anything is.

    With --repair, damaged shards get the ending .damaged; the same c4c extract as before then
    makes them anew, and nothing else.
    """
    from c4c.extract.inspect import damage

    clean = True
    for problem in damage(cache, repair):
        click.echo(problem)
        clean = False
    if clean:
        click.echo("every shard is there and every byte is as it was written", err=True)
    elif repair:
        click.echo("now run the same c4c extract as before", err=True)
    click.get_current_context().exit(0 if clean else 3)


@command.command()
@FOLDER
@click.option("--shard-clips", type=click.IntRange(1), default=1024, show_default=True,
              help="Clips a shard.")  # fmt: skip
def compact(cache: Path | None, shard_clips: int) -> None:
    """Merge small shards and drop superseded ones. Readers may go on reading meanwhile."""
    from c4c.extract.compact import compact as run

    done = run(cache, shard_clips)
    click.echo(
        f"{done.before} shards before, {done.after} now; {done.freed / 1e6:.1f} MB freed", err=True
    )


@command.command()
@FOLDER
@click.option("--split", help="One split. [all]")
@click.option("--format", "kind", type=click.Choice(["npy", "parquet"]), default="npy",
              show_default=True)  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
def export(cache: Path | None, split: str | None, kind: str, out: Path) -> None:
    """Write features of clips and captions for other programs: packed arrays and tables."""
    from c4c.extract.export import export_cache

    for path in export_cache(cache, split, kind, out):
        click.echo(str(path))
