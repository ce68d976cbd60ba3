"""Tables and pages by hand: the right figure in the right place, and nothing foreign as markup."""

import base64
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from c4c.heads import build_head
from c4c.retrieval.evaluate import evaluate
from c4c.retrieval.metrics import Metrics
from c4c.retrieval.page import Bar, bars, data_uri, page, table
from c4c.retrieval.report import Example, Row, Strip, film, render_report
from c4c.retrieval.search import Hit
from c4c.retrieval.table import evaluation_table, hits_table, render

EVIL = "<script>alert('x')</script>&"
SAFE = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;"
BACK = Metrics(5.0, 15.0, 25.0, 95.0, 8.0, 9.5, 0.125, 90, 80, 80)
THERE = Metrics(10.0, 20.0, 30.0, 99.0, 4.0, 6.5, 0.25, 100, 80, 85)


def test_a_table_is_aligned_by_its_longest_cells() -> None:
    assert render([("", "R@1"), ("a long name", "5.0"), ("b", "100.0")]) == (
        "               R@1\na long name    5.0\nb            100.0"
    )


def test_every_figure_of_an_evaluation_is_told_in_its_column(
    make_split: Callable[..., Any],
) -> None:
    found = evaluate(build_head("meanP", 64), *make_split(gone=("lost",)), ties="authors")
    lines = evaluation_table(found).splitlines()
    assert lines[0] == "meanP"
    assert lines[1].split() == [
        "R@1", "R@5", "R@10", "R@50", "median", "mean", "MRR", "Rsum", "queries", "gallery",
    ]  # fmt: skip
    perfect = ["100.0"] * 4 + ["1.0", "1.0", "1.000", "300.0", "8", "8", "of", "9"]
    assert lines[2].split() == ["text", "to", "video", *perfect]
    assert lines[3].split() == ["text", "to", "video,", "authors'", "ties", *perfect]
    assert lines[4].split() == ["video", "to", "text", *perfect]
    assert lines[6] == "twin accuracy 100.0 % (50 is chance)"
    assert lines[7].startswith("note: not comparable: 1 of 9")
    plain = evaluation_table(evaluate(build_head("meanP", 64), *make_split()))
    assert "authors" not in plain
    assert "of 9" not in plain


@pytest.mark.parametrize(
    ("start", "end", "where"),
    [
        (0.0, None, "v.mp4"), (0.0, 4.5, "v.mp4 0-4.5 s"), (2.0, None, "v.mp4 2-end s"),
        (2.0, 3.0, "v.mp4 2-3 s"),
    ],
)  # fmt: skip
def test_a_hit_tells_where_its_clip_lies(start: float, end: float | None, where: str) -> None:
    hits = [
        Hit("q", 1, 0.5, None, "clip", "v.mp4", start, end),
        Hit("q", 12, 0.25, 0.987, "c", "w", 0.0, 3.0, 1.5, ("partial: and more",)),
    ]
    lines = hits_table(hits).splitlines()
    assert lines[0].split() == ["rank", "score", "sure", "clip", "where"]
    assert lines[1] == f"   1  0.5000        clip  {where}"
    assert lines[2] == "  12  0.2500  99 %  c     w 0-3 s, best 1.5 s (partial)"


def test_nothing_foreign_is_markup() -> None:
    strip = Strip(EVIL, True, np.zeros((1, 4, 4, 3), np.uint8))
    row = Row(EVIL, {"t2v": THERE, "v2t": BACK}, 50.0)
    whole = render_report(EVIL, EVIL, [row], [Example(EVIL, (strip,))], EVIL)
    whole += film(EVIL, [Example(EVIL, (strip,))]) + table([[EVIL], [EVIL]])
    assert "<script>" not in whole
    # Title twice, lead, table, two bars, query, strip, foot; heading, query, strip; two cells.
    assert whole.count(SAFE) == 14
    assert not re.search(r"(src|href)=['\"](?!data:)", whole)


def test_a_page_has_its_title_lead_and_parts() -> None:
    made = page("A title", "What it says.", ["<i>one</i>", "<i>two</i>"])
    assert made.startswith("<!doctype html>")
    assert "<title>A title</title>" in made
    assert made.endswith("<h1>A title</h1><p>What it says.</p><i>one</i><i>two</i>\n")


def test_a_table_of_a_page_has_one_header() -> None:
    made = table([["a", "b"], ["1", "2"], ["3", "4"]])
    assert re.findall(r"<th>(\w)</th>", made) == ["a", "b"]
    assert re.findall(r"<td>(\w)</td>", made) == ["1", "2", "3", "4"]
    assert made.count("<tr>") == 3


def test_bars_are_as_long_as_their_figures() -> None:
    """In pixels: 31 to the left, 6.29 a percent; whiskers and the dashed line to the same scale."""
    made = bars([Bar("a", 50.0, (40.0, 70.0)), Bar("b", 0.0)], 25.0, "red")
    scale, left = (720 - 31 - 60) / 100, 31
    rects = re.findall(r"<rect x=(\S+) y=(\S+) width=(\S+) height=(\S+) ", made)
    assert [tuple(map(float, one)) for one in rects] == [
        (left, 8, round(50 * scale, 1), 20), (left, 38, round(0.4 * scale, 1), 20),
    ]  # fmt: skip
    low, high = left + 40 * scale, left + 70 * scale
    assert f"M{low:.1f} 18H{high:.1f}M{low:.1f} 13v10M{high:.1f} 13v10" in made
    assert made.count("<path") == 1
    (dashed,) = re.findall(r"<line x1=(\S+) x2=(\S+) y1=0 y2=(\d+)", made)
    assert dashed == (str(left + 25 * scale), str(left + 25 * scale), "68")
    assert re.findall(r">([\d.]+)</text>", made) == ["50.0", "0.0"]
    assert f"<text x={left + 70 * scale + 6:.1f} y=22>50.0" in made  # beyond the whisker
    assert "<line" not in bars([Bar("a", 1.0)], None, "red")


def test_a_report_has_every_figure_of_both_directions_in_order() -> None:
    rows = [
        Row("one", {"t2v": THERE, "v2t": BACK}, 51.0),
        Row("two", {"t2v": BACK, "v2t": THERE}, None),
    ]
    made = render_report("T", "L", rows, [], "F")
    cells = re.findall(r"<td>(.*?)</td>", made)
    assert cells[:10] == [
        "one",
        "10.0",
        "20.0",
        "30.0",
        "4.0",
        "6.5",
        "5.0",
        "15.0",
        "25.0",
        "51.0",
    ]
    assert cells[10:] == ["two", "5.0", "15.0", "25.0", "8.0", "9.5", "10.0", "20.0", "30.0", "–"]
    assert made.count("<svg") == 2
    assert "What was found" not in made
    assert render_report("T", "L", rows[1:], [], "F").count("<svg") == 1  # nobody has twins


def test_strips_show_frames_side_by_side_and_mark_the_right_clip() -> None:
    frames = np.zeros((3, 8, 6, 3), np.uint8)
    frames[1] = 255
    uri = data_uri(frames)
    assert uri.startswith("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert image.size == (18, 8)
    light = np.asarray(image).mean((0, 2)).reshape(3, 6).mean(1)
    assert light[1] > 200 > 60 > max(light[0], light[2])
    strips = (Strip("mine", True, frames), Strip("other", False, frames[:0]))
    made = film("Won", [Example("a dog", strips)])
    assert "<div class='hit right'><span>mine</span><img" in made
    assert "<div class='hit'><span>other</span><i>no video</i>" in made
    assert "“a dog”" in made
    assert film("Won", []) == ""
