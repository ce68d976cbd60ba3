"""Editions of a benchmark whose figures are not those of the benchmark, told by their clips."""

from __future__ import annotations

import re
from collections.abc import Collection

# MSR-VTT's 1k-A is of video7010 to video9999; tables with embedded videos may number them instead.
_MVEB = 879
_TEST_CLIP = re.compile(r"(.*/)?(video(7\d{3}|[89]\d{3})|test-\d{5}-of-\d{5}-\d{6})(\.\w+)?")


def edition_notes(ids: Collection[str]) -> list[str]:
    """What must be said beside figures on these clips; nothing for most.

    >>> edition_notes([f"video{number}" for number in range(9000, 9879)])[0][:38]
    'these are the 879 clips with sound of '
    >>> edition_notes(["video9000"])
    []
    """
    if len(ids) != _MVEB or not all(map(_TEST_CLIP.fullmatch, ids)):
        return []
    return [
        f"these are the {_MVEB} clips with sound of MSR-VTT's 1,000 test clips, the edition of the "
        "MVEB board, which scores nDCG@10: not comparable with figures on 1,000"
    ]
