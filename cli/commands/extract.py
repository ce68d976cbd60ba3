"""``c4c extract``: videos and captions to a cache of CLIP features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from c4c.cli.commands.options import Slice
from c4c.cli.complete import backbones, names
from c4c.cli.presets import preset_option
from c4c.core.errors import C4CError
from c4c.core.limits import MAX_GAP
from c4c.core.terminal import visible

if TYPE_CHECKING:
    from c4c.cache.open import Failure
    from c4c.extract.config import ExtractConfig


@click.command()
@preset_option("extract")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--dataset", shell_complete=names("c4c.extract.datasets:DATASETS"),
              help="Its name; 'folder' is any folder of videos. [folder, with DIR]")  # fmt: skip
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the dataset.")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of its videos.")
@click.option(
    "--captions", type=click.Path(path_type=Path), help="Captions file (folder, manifest)."
)
@click.option("--only-captioned", is_flag=True,
              help="Of a folder, only the videos that --captions names.")  # fmt: skip
@click.option("--include", multiple=True, metavar="PATTERN",
              help="Only files like this, by name or path; repeatable. [all]")  # fmt: skip
@click.option("--exclude", multiple=True, metavar="PATTERN",
              help="No files like this, likewise; repeatable.")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path), help="Cache. [c4c-cache/DATASET]")
@click.option(
    "--split", "splits", multiple=True, help="Split to extract; repeatable. [the usual ones]"
)
@click.option("--backbone", default="ViT-B-32", show_default=True, shell_complete=backbones,
              help="open_clip name, tiny, or auto (read off the weights).")  # fmt: skip
@click.option("--pretrained", help="Tag, file of weights, or none. [openai, or the first]")
@click.option("--quick-gelu/--no-quick-gelu", default=None,
              help="Activation of weights in a file. [found out, and said]")  # fmt: skip
@click.option("--preprocess", metavar="TAG",
              help="Frames as for this tag's weights. [as the weights say]")  # fmt: skip
@click.option("--tokenizer", type=click.Path(path_type=Path),
              help="Folder or file, for backbones without CLIP's own. [the hub's]")  # fmt: skip
@click.option("--features", type=click.Choice(["final", "hidden"]), default="final",
              show_default=True, help="hidden: before CLIP's projections.")  # fmt: skip
@click.option("--fps", default=1.0, show_default=True, help="Frames a second.")
@click.option("--max-frames", type=int, help="Frames of a clip at most.")
@click.option("--sampling", type=click.Choice(["uniform", "head", "tail"]), default="uniform",
              show_default=True, help="Which frames when there are more.")  # fmt: skip
@click.option("--frame-mode", type=click.Choice(["exact", "near", "key"]), default="exact",
              show_default=True, help="near, key: frames that decode faster.")  # fmt: skip
@click.option("--max-gap", default=MAX_GAP, show_default=True,
              help="Of key: seconds without a frame at most.")  # fmt: skip
@click.option("--max-words", type=int, help="Tokens of a caption at most.")
@click.option("--decoder", type=click.Choice(["pyav", "decord"]), default="pyav",
              show_default=True, help="What decodes the videos.")  # fmt: skip
@click.option("--backend", type=click.Choice(["auto", "torch", "openvino", "compile"]),
              help="What computes the backbone; auto measures. "
                   "[as the cache was begun, or torch]")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
              default="auto", show_default=True,
              help="auto: bfloat16 where it is fast. int8: of OpenVINO.")  # fmt: skip
@click.option("--allow-int8", is_flag=True, help="Of --backend auto: it may take int8.")
@click.option("--device", help="cpu, cuda:1; several with commas. [a GPU when there is one]")
@click.option("--batch", type=int,
              help="Frames encoded at once. [as the cache was begun, or 64]")  # fmt: skip
@click.option("--compile/--no-compile", hidden=True, default=False,
              help="As --backend compile.")  # fmt: skip
@click.option("--workers", default=0, help="Decoder processes. [cores]")
@click.option("--deadline", type=float, help="Seconds a clip may take. [by its size]")
@click.option("--shard-clips", default=256, show_default=True,
              help="Clips committed together.")  # fmt: skip
@click.option("--shard-slice", type=Slice(), default="0/1", show_default=True,
              help="i/n: part i of n, counted from 0 (job arrays).")  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Extract failed clips again.")
@click.option("--refresh", is_flag=True,
              help="Extract again the clips that newer rules of decoding concern.")  # fmt: skip
@click.option("--max-fail-rate", default=1.0,
              help="Stop when more than this share fails.")  # fmt: skip
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local",
              show_default=True, help="ray: a task a shard on a Ray cluster.")  # fmt: skip
@click.option("--address", help="Of the Ray cluster, such as ray-head:6379. [this machine]")
@click.option("--strict", is_flag=True, help="Refuse an incomplete dataset.")
@click.option("--dry-run", is_flag=True, help="Say what it would take; extract nothing.")
def command(folder: Path | None, dry_run: bool, **options: Any) -> None:
    """Cache per-frame CLIP features of a folder of videos (DIR) or of a dataset.

    Run it again to go on where it stopped, or to add what is new. Another DIR is added to the
    cache; only c4c cache prune removes clips.

    Exit status: 0 all clips have features, 3 some failed, 2 nothing could be done.
    """
    from c4c.core.progress import say
    from c4c.extract.config import ExtractConfig
    from c4c.extract.engines.run import run_with_engine
    from c4c.extract.video.decode import HDR

    if options.pop("compile") and options["backend"] is None:
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
    if folder is None:
        if not options["dataset"]:
            raise C4CError("Pass a folder of videos, c4c extract DIR, or --dataset NAME.")
        return options
    typed = click.get_current_context().get_parameter_source
    dataset = options["dataset"] if typed("dataset") is ParameterSource.COMMANDLINE else None
    if dataset not in (None, "folder"):
        raise C4CError(f"'{folder}' is taken as a folder of videos; of a dataset it is --root.")
    if options["root"] and typed("root") is ParameterSource.COMMANDLINE:
        raise C4CError(f"Pass the folder once: '{folder}', or --root {options['root']}.")
    return {**options, "dataset": "folder", "root": folder, "videos": options["videos"] or folder}
