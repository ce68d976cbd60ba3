"""Hits for other programs: subtitles, an editor's time line, a table, a page, and cut files.

WebVTT and SRT are files of one video each, so there they go to a folder; the others are one file.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic
from c4c.core.progress import Progress, say
from c4c.core.terminal import visible

if TYPE_CHECKING:
    from c4c.extract.video.apart import Film
    from c4c.retrieval.search import Hit

_PER_VIDEO = ("vtt", "srt")
_MILLISECONDS = 1000.0  # a second, of videos whose frame rate is not known


def export_hits(hits: Iterable[Hit], form: str, out: Path | None = None) -> list[Path]:
    """Write hits for another program.

    - ``vtt``, ``srt``: subtitles, a file for each video, named after it; cues are the questions.
    - ``otio``: an OpenTimelineIO time line of the hits one after the other, which editors open.
    - ``csv``: a row a hit, with the fields of ``Hit``.
    - ``html``: a page of its own with a picture and a link for each.

    Args:
        hits: what to write, in their order.
        form: one of ``FORMS``.
        out: the file; for ``vtt`` and ``srt`` the folder. ``None`` is ``c4c-hits`` (``.csv``, …).

    Returns:
        What was written.

    Raises:
        C4CError: an unknown form, or nowhere to write.

    Example:
        with Searcher() as search:
            export_hits(search("a dog runs into the sea"), "otio", Path("dog.otio"))
    """
    if form not in FORMS:
        raise C4CError(f"Unknown form '{form}'. Known: {', '.join(FORMS)}.")
    if form in _PER_VIDEO:
        return _write_subtitles(list(hits), form, out or Path("c4c-hits"))
    out = out or Path(f"c4c-hits.{form}")
    write_atomic(out, _WRITERS[form](list(hits)).encode("utf-8", "backslashreplace"))
    return [out]


def cut_hits(hits: Iterable[Hit], folder: Path, exact: bool = False) -> list[Path]:
    """Write the span of each hit to a file of its own; see ``extract.video.apart.cut``.

    Of a video that cannot be cut a line says so.

    Args:
        hits: whose spans; equal spans are cut once.
        folder: where the files are written.
        exact: begin with the frame on display there, not with the key frame before.

    Returns:
        The files.

    Raises:
        C4CError: the folder cannot be written, or nothing could be cut.
    """
    from c4c.extract.video.apart import cut

    spans = {(hit.path, hit.start, hit.end): None for hit in hits}
    made, failed = [], ""
    with Progress("cut", len(spans)) as progress:
        for path, start, end in spans:
            try:
                made.append(cut(path, start, end, folder, exact))
            except C4CError as error:
                failed = str(error)
                say(failed)
            progress.step()
    if failed and not made:
        raise C4CError(f"Nothing could be cut: {failed}")
    return made


class _Films(dict[str, "Film | None"]):
    """What each video is, looked at once; ``None`` when it cannot be read, which a line says."""

    def __missing__(self, path: str) -> Film | None:
        from c4c.extract.video.apart import look

        try:
            self[path] = look(path)
        except C4CError as error:
            say(str(error))
            self[path] = None
        return self[path]

    def end(self, hit: Hit) -> float | None:
        """Where a hit ends; ``None`` when it is the end of a video that cannot be read."""
        if hit.end is not None:
            return hit.end
        film = self[hit.path]
        return film.seconds if film else None


def _write_subtitles(hits: Sequence[Hit], form: str, folder: Path) -> list[Path]:
    videos: dict[str, list[tuple[float, float, str]]] = {}
    films = _Films()
    for hit in hits:
        end = films.end(hit)
        if end is None or end <= hit.start:
            say(f"{hit.path}: how long it is cannot be read, so it has no subtitles")
            continue
        sure = "" if hit.confidence is None else f" ({100 * hit.confidence:.0f} %)"
        cue = (hit.start, end, f"{visible(hit.query)}{sure}")
        videos.setdefault(hit.path, []).append(cue)
    write = _vtt if form == "vtt" else _srt
    names: set[str] = set()
    made = []
    for path, cues in videos.items():
        target = folder / f"{_free_name(Path(path).stem, names)}.{form}"
        write_atomic(target, write(sorted(cues)).encode("utf-8", "backslashreplace"))
        made.append(target)
    return made


def _free_name(stem: str, taken: set[str]) -> str:
    """A name for a video's file that no other video's has."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


def _clock(seconds: float, point: str) -> str:
    """``00:01:02.500``, or with a comma.

    >>> _clock(62.5, ",")
    '00:01:02,500'
    """
    whole = round(seconds * 1000)
    minutes, rest = divmod(whole, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _vtt(cues: Sequence[tuple[float, float, str]]) -> str:
    blocks = ["WEBVTT"]
    for start, end, text in cues:
        span = f"{_clock(start, '.')} --> {_clock(end, '.')}"
        blocks.append(f"{span}\n{html.escape(text, quote=False)}")
    return "\n\n".join(blocks) + "\n"


def _srt(cues: Sequence[tuple[float, float, str]]) -> str:
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(cues, 1)
    ]
    return "\n".join(blocks)


def _csv(hits: Sequence[Hit]) -> str:
    from c4c.retrieval.search import Hit

    names = ["id", *(field.name for field in fields(Hit))]
    text = io.StringIO()
    table = csv.DictWriter(text, names, restval="")
    table.writeheader()
    for hit in hits:
        table.writerow(hit.as_dict() | {"notes": "; ".join(hit.notes)})
    return text.getvalue()


def _otio(hits: Sequence[Hit]) -> str:
    """OpenTimelineIO's JSON: a track with a clip a hit, and the frame that fits best marked."""
    films = _Films()
    clips = [clip for hit in hits if (clip := _otio_clip(hit, films)) is not None]
    track = {"OTIO_SCHEMA": "Track.1", "name": "hits", "kind": "Video", "children": clips}
    stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track]}
    timeline = {"OTIO_SCHEMA": "Timeline.1", "name": "c4c hits", "tracks": stack}
    return json.dumps(timeline, indent=1)


def _otio_clip(hit: Hit, films: _Films) -> dict[str, Any] | None:
    from c4c.retrieval.page import file_url

    end, film = films.end(hit), films[hit.path]
    if end is None:
        say(f"{hit.path}: how long it is cannot be read, so it is not on the time line")
        return None
    rate = film.rate if film else _MILLISECONDS
    media: dict[str, Any] = {"OTIO_SCHEMA": "ExternalReference.1"}
    media["target_url"] = file_url(hit.path)
    markers = []
    if film:
        media["available_range"] = _range(0.0, film.seconds, rate)
    if hit.best is not None:
        marked = {"OTIO_SCHEMA": "Marker.2", "name": "best", "color": "RED"}
        markers.append(marked | {"marked_range": _range(hit.best, hit.best, rate)})
    return {
        "OTIO_SCHEMA": "Clip.1",
        "name": str(hit.query),
        "source_range": _range(hit.start, end, rate),
        "media_reference": media,
        "markers": markers,
        "metadata": {"c4c": hit.as_dict()},
    }


def _range(start: float, end: float, rate: float) -> dict[str, Any]:
    """A span of seconds in whole frames."""
    first, last = round(start * rate), round(end * rate)
    return {
        "OTIO_SCHEMA": "TimeRange.1",
        "start_time": {"OTIO_SCHEMA": "RationalTime.1", "value": first, "rate": rate},
        "duration": {"OTIO_SCHEMA": "RationalTime.1", "value": last - first, "rate": rate},
    }


def _html(hits: Sequence[Hit]) -> str:
    from c4c.retrieval.hit_page import hit_page

    return hit_page(hits)


_WRITERS: dict[str, Callable[[Sequence[Hit]], str]] = {"otio": _otio, "csv": _csv, "html": _html}
FORMS = (*_PER_VIDEO, *_WRITERS)
