"""``c4c index``: the gallery of a cache, which searches make by themselves, made beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from c4c.cli.options import PATH, GroupedCommand, option, settings_options
from c4c.core.errors import C4CError
from c4c.retrieval.choices import GALLERY_FORMS
from c4c.retrieval.opening import SearchConfig


@click.command(cls=GroupedCommand, epilog="c4c index c4c-cache/videos --verify")
@click.argument("cache", required=False, type=PATH)
@settings_options(
    SearchConfig, only=("checkpoint", "pretrained", "window", "hop", "max_frames", "device")
)
@option("Data", "--compact", is_flag=True, help="Make it anew, without clips that are gone.")
@option("Data", "--verify", is_flag=True, help="Read every byte and compare checksums.")
@option("Output", "--export", type=click.Choice(GALLERY_FORMS),
        help="Write its windows too: for FAISS, or for clip-retrieval.")  # fmt: skip
@option("Output", "--out", type=PATH, help="Folder for --export.")
def command(
    cache: Path | None,
    compact: bool,
    verify: bool,
    export: str | None,
    out: Path | None,
    **settings: Any,
) -> None:
    """Make the gallery of CACHE for c4c retrieve, or add what the cache has gained.

    Exit status: 0 it is as it should be; 3 --verify found damage.
    """
    from c4c.core.terminal import tell
    from c4c.retrieval.gallery_export import export_gallery
    from c4c.retrieval.searcher import Searcher

    if bool(export) != bool(out):
        raise C4CError("--export needs a folder: --out DIR; and --out is of --export.")
    with Searcher(cache, **settings) as searcher:
        gallery = searcher.compact() if compact else searcher.gallery
        if verify:
            damaged = list(gallery.damage())
            tell(*damaged)
            if damaged:
                raise click.exceptions.Exit(3)
        counts = {"clip": len(gallery), "window": gallery.windows, "piece": len(gallery.pieces)}
        told = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
        for path in export_gallery(gallery, export, out) if export and out else ():
            tell(str(path))
        tell(f"{gallery.folder}: {told}, {gallery.nbytes / 1e6:.1f} MB")
