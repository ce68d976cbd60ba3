"""Hits as a page that anyone can open: one file, a picture and a link for each of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from c4c.core.records import Clip
from c4c.retrieval.page import escape, file_url, page, small_uri

if TYPE_CHECKING:
    from c4c.retrieval.search import Hit

_WIDTH = 240  # pixels of a picture's longer side
_DEADLINE = 20.0  # seconds for one
_STYLE = "style='height:90px'"


def hit_page(hits: Sequence[Hit]) -> str:
    """The page: each question with its hits, pictures decoded in confined processes.

    Links lead to the videos where they lie, at the second at which the hit begins.
    """
    pictures = _pictures(hits)
    parts = [
        f"<div class=query><b>“{escape(query)}”</b>{''.join(_hit(one, pictures) for one in own)}"
        "</div>"
        for query, own in groupby(hits, lambda hit: hit.query)
    ]
    lead = f"{len(hits)} hits. Links open the videos where they lay when this page was made."
    return page("What was found", lead, parts)


def _hit(hit: Hit, pictures: dict[tuple[str, float], str]) -> str:
    end = "the end" if hit.end is None else f"{hit.end:g} s"
    words = [f"{hit.start:g} s to {end}"]
    words += [] if hit.best is None else [f"best {hit.best:g} s"]
    words += [] if hit.confidence is None else [f"{100 * hit.confidence:.0f} % sure"]
    words += hit.notes
    until = "" if hit.end is None else f",{hit.end:g}"
    link = escape(f"{file_url(hit.path)}#t={hit.start:g}{until}")
    source = pictures.get(_moment(hit))
    image = f"<img alt='' {_STYLE} src='{source}'>" if source else "<i>no video</i>"
    name = escape(os.path.basename(hit.path))
    about = "<br>".join(map(escape, words))
    return (
        f"<div class=hit><span>{hit.rank}. <a href='{link}' title='{escape(hit.path)}'>{name}</a>"
        f"<br>{about}</span>{image}</div>"
    )


def _moment(hit: Hit) -> tuple[str, float]:
    """Video and second whose picture stands for a hit."""
    return hit.path, hit.start if hit.best is None else hit.best


def _pictures(hits: Sequence[Hit]) -> dict[tuple[str, float], str]:
    """A picture of each hit as the page holds it; none where the video is gone."""
    from c4c.extract.video.pool import decode_many
    from c4c.extract.video.request import Request

    moments = sorted({_moment(hit) for hit in hits})
    # A frame at that second; near the end of a video there may be none after it any more.
    clips = [
        Clip(str(number), path, max(0.0, second - 0.001), second + 1.0)
        for number, (path, second) in enumerate(moments)
    ]
    uris = {}
    with contextlib.closing(decode_many(clips, Request(max_frames=1), 2, _DEADLINE)) as decoded:
        for place, one in decoded:
            if len(one.frames):
                uris[moments[place]] = small_uri(one.frames.pixels[0], _WIDTH)
    return uris
