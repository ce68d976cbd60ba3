"""``c4c index``: the gallery of a cache, which searches make by themselves, made beforehand."""

from __future__ import annotations

from pathlib import Path

import click

from c4c.core.errors import C4CError


@click.command()
@click.argument("cache", required=False, type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Trained head. [mean pooling]")
@click.option("--window", type=float, multiple=True,
              help="Seconds of a window; repeatable. [4, 8 and 16]")  # fmt: skip
@click.option("--hop", type=float, help="Seconds between windows. [a quarter of their length]")
@click.option("--max-frames", type=int, help="Frames a clip. [as trained]")
@click.option("--compact", is_flag=True, help="Make it anew, without clips that are gone.")
@click.option("--verify", is_flag=True, help="Read every byte and compare checksums.")
@click.option("--export", type=click.Choice(["faiss", "parquet"]),
              help="Write its windows too: for FAISS, or for clip-retrieval.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder for --export.")
@click.option("--device", help="cpu, cuda, cuda:1. [a GPU when there is one]")
@click.option("--pretrained", help="Weights for the texts. [those of the cache]")
def command(
    cache: Path | None,
    checkpoint: Path | None,
    window: tuple[float, ...],
    hop: float | None,
    max_frames: int | None,
    compact: bool,
    verify: bool,
    export: str | None,
    out: Path | None,
    device: str | None,
    pretrained: str | None,
) -> None:
    """Make the gallery of CACHE for c4c retrieve, or add what the cache has gained.

    Exit status: 0 it is as it should be; 3 --verify found damage.
    """
    from c4c.core.terminal import tell
    from c4c.retrieval.gallery_export import export_gallery
    from c4c.retrieval.searcher import Searcher

    if bool(export) != bool(out):
        raise C4CError("--export needs a folder: --out DIR; and --out is of --export.")
    with Searcher(
        cache,
        checkpoint,
        window=window,
        hop=hop,
        max_frames=max_frames,
        device=device,
        pretrained=pretrained,
    ) as searcher:
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
