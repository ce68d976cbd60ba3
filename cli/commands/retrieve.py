"""``c4c retrieve``: find clips for sentences, or evaluate a head."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from c4c.cli.presets import preset_option
from c4c.core.errors import C4CError
from c4c.retrieval.hit_files import FORMS


@click.command()
@preset_option("retrieve")
@click.argument("sentences", nargs=-1, metavar="[SENTENCE]...")
@click.option("--cache", type=click.Path(path_type=Path),
              help="Feature cache. [the one below c4c-cache/]")  # fmt: skip
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Trained head. [mean pooling]")
@click.option("--evaluate", is_flag=True, help="Evaluate on a split with captions.")
@click.option("--moments", type=click.Path(path_type=Path), metavar="FILE",
              help="Evaluate moments on queries with their spans (JSON lines).")  # fmt: skip
@click.option("--queries", help="File of queries: lines, JSON lines, .json, .csv; - is stdin.")
@click.option("--interactive", is_flag=True, help="Keep asking, a sentence a line.")
@click.option("--weight", "weights", type=float, multiple=True,
              help="Of each SENTENCE, in their order. [1]")  # fmt: skip
@click.option("--not", "avoid", multiple=True, help="What hits are not to show; repeatable.")
@click.option("--like", help="A video, a picture, or a second of a video: VIDEO@12.5.")
@click.option("--texts", metavar="FILE",
              help="Which of its sentences fit --like; a file as of --queries.")  # fmt: skip
@click.option("--split", help="Split to use. [all; test with --evaluate]")
@click.option("--whole", is_flag=True, help="Answer with whole clips, not moments in them.")
@click.option("--window", type=float, multiple=True,
              help="Seconds of a window; repeatable. [4, 8 and 16]")  # fmt: skip
@click.option("--hop", type=float, help="Seconds between windows. [a quarter of their length]")
@click.option("--top-k", default=10, show_default=True, help="Answers a query.")
@click.option("--per-video", type=int, help="Answers from one video at most.")
@click.option("--min-confidence", type=float, help="Leave out hits below it, 0 to 1.")
@click.option("--missing", type=click.Choice(["show", "hide"]), default="show", show_default=True,
              help="Hits whose video file does not exist.")  # fmt: skip
@click.option("--path", help="Only videos whose path or name matches, such as '*beach*'.")
@click.option("--folder", help="Only videos in this folder or below.")
@click.option("--after", help="Only files changed on this day or later, 2024-05-31.")
@click.option("--before", help="Only files changed on this day or earlier.")
@click.option("--longer", type=float, help="Only clips of so many seconds or more.")
@click.option("--shorter", type=float, help="Only clips of so many seconds or fewer.")
@click.option("--caption", help="Only clips with a caption that contains these words.")
@click.option("--ties", type=click.Choice(["expected", "authors"]), default="expected",
              show_default=True, help="authors: show their column too.")  # fmt: skip
@click.option("--shortlist", type=int,
              help="Answers that a tight head looks at. [100; all with --evaluate]")  # fmt: skip
@click.option("--rerank", type=click.Choice(["none", "qbnorm", "dual-softmax"]), default="none",
              show_default=True, help="Of whole clips, against hubs; labelled.")  # fmt: skip
@click.option("--bank", help="Split of QB-Norm's queries. [that of the training, or train]")
@click.option("--max-frames", type=int, help="Frames a clip. [as trained]")
@click.option("--out", type=click.Path(path_type=Path),
              help="JSON lines, or what --export makes, to this file.")  # fmt: skip
@click.option("--export", type=click.Choice(FORMS),
              help="Write hits as this; vtt, srt: a file a video. [into c4c-hits…]")  # fmt: skip
@click.option("--cut", type=click.Path(path_type=Path), metavar="DIR",
              help="Also write what was found as videos, copied from a key frame on.")  # fmt: skip
@click.option("--exact", is_flag=True, help="With --cut: begin at the very frame; encodes.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="Figures of --evaluate, with ranks, or --moments.")  # fmt: skip
@click.option("--trec", type=click.Path(path_type=Path), metavar="PREFIX",
              help="With --evaluate: TREC runs and qrels, PREFIX.t2v.run and so on.")  # fmt: skip
@click.option("--similarity", type=click.Path(path_type=Path), metavar="FILE.npy",
              help="With --evaluate: all scores, captions by clips.")  # fmt: skip
@click.option("--device", help="cpu, cuda, cuda:1. [a GPU when there is one]")
@click.option("--pretrained", help="Weights for the texts. [those of the cache]")
@click.option("--tokenizer", type=click.Path(path_type=Path),
              help="The one that the cache was made with. [as it was passed then]")  # fmt: skip
def command(
    sentences: tuple[str, ...],
    evaluate: bool,
    moments: Path | None,
    queries: str | None,
    texts: str | None,
    interactive: bool,
    json_path: Path | None,
    trec: Path | None,
    similarity: Path | None,
    **options: Any,
) -> None:
    """Find the moments that a SENTENCE describes, or evaluate a head with --evaluate.

    One question prints a table on a terminal; a file of queries, or no terminal, JSON lines.
    Several sentences are one question, each with its --weight.
    """
    from c4c.retrieval.filters import Filter
    from c4c.retrieval.opening import RetrieveConfig

    parts = {name: options.pop(name) for name in ("weights", "avoid", "like")}
    where = Filter(**{name: options.pop(name) for name in _FILTERS})
    wanted = {name: options.pop(name) for name in ("per_video", "min_confidence", "missing")}
    target = {name: options.pop(name) for name in ("out", "export", "cut", "exact")}
    config = RetrieveConfig(**options)
    asks = bool(sentences or parts["like"])
    if sum(map(bool, (asks, evaluate, moments, queries, interactive))) != 1:
        raise C4CError(
            "Pass one of: a sentence (or --like), --queries FILE, --interactive, "
            "--moments FILE, or --evaluate."
        )
    if moments:
        _evaluate_moments(config, moments, json_path)
        return
    if evaluate:
        _evaluate(config, json_path, trec, similarity)
        return
    if trec or similarity or json_path:
        raise C4CError("--trec, --similarity and --json are for --evaluate; --out takes hits.")
    if target["exact"] and not target["cut"]:
        raise C4CError("--exact is about cuts; pass --cut DIR too.")
    if texts:
        if target["export"] or target["cut"]:
            raise C4CError("--export and --cut take hits in videos; leave them out with --texts.")
        _texts(config, sentences, parts["like"], texts, target["out"])
        return
    wanted["where"] = where
    asked = _asked(sentences, queries, parts)
    _search(config, wanted, asked, target, interactive, as_table=not queries)


_FILTERS = ("path", "folder", "after", "before", "longer", "shorter", "caption")


def _asked(sentences: tuple[str, ...], queries: str | None, parts: dict[str, Any]) -> Iterator[Any]:
    """What is asked: one question of the command line, those of a file, or lines as they come."""
    from c4c.retrieval.asking import Ask
    from c4c.retrieval.queries import read_queries

    if queries:
        return read_queries(queries)
    if sentences or parts["like"]:
        return iter([Ask(sentences, **parts)])
    return _typed()


def _typed() -> Iterator[str]:
    """Lines from a person, until the end of input."""
    from c4c.core.progress import say

    say("a sentence a line; end with Ctrl-D")
    while line := sys.stdin.readline() if sys.stdin else "":
        if line.strip():
            yield line.strip()


def _evaluate(
    config: Any, json_path: Path | None, trec: Path | None, similarity: Path | None
) -> None:
    from c4c.core.files import write_json
    from c4c.core.progress import say
    from c4c.core.terminal import tell
    from c4c.retrieval.export import tied_note, write_similarity, write_trec
    from c4c.retrieval.session import run_evaluate
    from c4c.retrieval.table import evaluation_table

    found = run_evaluate(config)
    tell(*evaluation_table(found).split("\n"))
    if json_path:
        write_json(json_path, found.as_dict())
    if trec:
        say(f"written: {', '.join(map(str, write_trec(found, trec)))}{tied_note(found)}")
    if similarity:
        say(f"written: {', '.join(map(str, write_similarity(found, similarity)))}")


def _evaluate_moments(config: Any, moments: Path, json_path: Path | None) -> None:
    from c4c.core.files import write_json
    from c4c.core.terminal import tell
    from c4c.retrieval.moment_metrics import (
        as_data,
        evaluate_moments,
        figures_table,
        read_targets,
    )
    from c4c.retrieval.searcher import Searcher

    targets = read_targets(moments)
    with Searcher.of(config) as searcher:
        figures = evaluate_moments(searcher, targets)
    tell(searcher.head.name, *figures_table(figures).split("\n"))
    if json_path:
        write_json(json_path, {"head": searcher.head.name, "figures": as_data(figures)})


def _texts(
    config: Any, sentences: tuple[str, ...], like: str | None, texts: str, out: Path | None
) -> None:
    """Print the sentences of a file that fit a video, or write them."""
    from c4c.retrieval.queries import read_queries
    from c4c.retrieval.searcher import Searcher
    from c4c.retrieval.texts import best_texts

    if not like or sentences:
        raise C4CError("--texts FILE says which sentences fit: pass --like VIDEO, and none here.")
    with Searcher.of(config) as searcher:
        found = best_texts(searcher, like, read_queries(texts), config.top_k)
    _show(iter([found]), out, as_table=True)


def _search(
    config: Any,
    wanted: dict[str, Any],
    asked: Iterator[Any],
    target: dict[str, Any],
    each: bool,
    as_table: bool,
) -> None:
    """Print hits, or write them; ``each`` answers a question before the next one is read."""
    from c4c.retrieval.searcher import Searcher

    first = next(asked, None)
    if first is None:
        raise C4CError("There is no query: pass a sentence, or --queries FILE with one a line.")
    several = itertools.chain([first], asked)
    with Searcher.of(config) as searcher:
        answers: Iterator[Any]
        if each:
            answers = (searcher(query, config.top_k, **wanted) for query in several)
        else:
            answers = searcher.stream(several, config.top_k, **wanted)
        answers = _remarked(answers, wanted["min_confidence"])
        if target["export"] or target["cut"]:
            _hand_over(list(answers), target, as_table)
        else:
            _show(answers, target["out"], as_table)


def _hand_over(answers: list[Any], target: dict[str, Any], as_table: bool) -> None:
    """Write hits for other programs, and what was found as videos."""
    from c4c.core.progress import say
    from c4c.retrieval.hit_files import cut_hits, export_hits

    hits = [hit for own in answers for hit in own]
    if target["export"]:
        written = export_hits(hits, target["export"], target["out"])
        say(f"written: {', '.join(map(str, written)) or 'nothing, for nothing was found'}")
    else:
        _show(iter(answers), target["out"], as_table)
    if target["cut"]:
        for path in cut_hits(hits, target["cut"], target["exact"]):
            say(f"written: {path}")


def _show(answers: Iterator[Any], out: Path | None, as_table: bool) -> None:
    """A table on a terminal, else JSON lines."""
    import json

    from c4c.core.files import write_atomic
    from c4c.core.terminal import tell
    from c4c.retrieval.table import hits_table

    terminal = sys.stdout is not None and sys.stdout.isatty() and not out
    if terminal and as_table:
        for hits in answers:
            tell(*hits_table(hits).split("\n"))
        return
    # ASCII: no character can split a line.
    lines = (json.dumps(hit.as_dict()) for hits in answers for hit in hits)
    if out:
        write_atomic(out, lambda target: _write_lines(target, lines))
        return
    for line in lines:
        tell(line)


def _remarked(answers: Iterator[Any], least: float | None) -> Iterator[Any]:
    """The answers; at the end a line says how many questions nothing fits."""
    from c4c.core.progress import say

    count = nothing = 0
    for hits in answers:
        count += 1
        sure = [hit.confidence for hit in hits if hit.confidence is not None]
        nothing += not hits or (bool(sure) and max(sure) < _LIKELY)
        yield hits
    if nothing:
        which = "this question" if count == 1 else f"{nothing} of {count} questions"
        say(
            f"nothing here seems to fit {which}: no hit has a confidence of {least or _LIKELY:g} "
            "or more (unrelated sentences score as well)"
        )


_LIKELY = 0.5  # a confidence below it: an unrelated sentence's best hit would score higher


def _write_lines(target: Path, lines: Iterator[str]) -> None:
    with target.open("w", encoding="ascii") as stream:
        stream.writelines(line + "\n" for line in lines)
