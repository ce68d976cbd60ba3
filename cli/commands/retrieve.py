"""``c4c retrieve``: find clips for sentences, or evaluate a head."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from c4c.cli.options import PATH, GroupedCommand, option, settings_options
from c4c.cli.presets import preset_option
from c4c.core.errors import C4CError
from c4c.core.settings import described
from c4c.retrieval.asking import Ask
from c4c.retrieval.filters import Filter
from c4c.retrieval.hit_files import FORMS
from c4c.retrieval.opening import RetrieveConfig
from c4c.retrieval.wanted import Wanted


@click.command(cls=GroupedCommand, epilog='c4c retrieve "a dog runs into the sea" --top-k 5')
@click.argument("sentences", nargs=-1, metavar="[SENTENCE]...")
@option("Question", "--queries",
        help="File of queries: lines, JSON lines, .json, .csv; - is stdin.")  # fmt: skip
@option("Question", "--interactive", is_flag=True, help="Keep asking, a sentence a line.")
@settings_options(Ask)
@option("Question", "--texts", metavar="FILE",
        help="Which of its sentences fit --like; a file as of --queries.")  # fmt: skip
@option("Evaluation", "--evaluate", is_flag=True, help="Evaluate on a split with captions.")
@settings_options(RetrieveConfig)
@settings_options(Wanted)
@settings_options(Filter)
@option("Evaluation", "--moments", type=PATH, metavar="FILE",
        help="Evaluate moments on queries with their spans (JSON lines).")  # fmt: skip
@option("Evaluation", "--json", "json_path", type=PATH,
        help="Figures of --evaluate, with ranks, or --moments.")  # fmt: skip
@option("Evaluation", "--trec", type=PATH, metavar="PREFIX",
        help="With --evaluate: TREC runs and qrels, PREFIX.t2v.run and so on.")  # fmt: skip
@option("Evaluation", "--similarity", type=PATH, metavar="FILE.npy",
        help="With --evaluate: all scores, captions by clips.")  # fmt: skip
@option("Output", "--out", type=PATH, help="JSON lines, or what --export makes, to this file.")
@option("Output", "--export", type=click.Choice(FORMS),
        help="Write hits as this; vtt, srt: a file a video. [into c4c-hits…]")  # fmt: skip
@option("Output", "--cut", type=PATH, metavar="DIR",
        help="Also write what was found as videos, copied from a key frame on.")  # fmt: skip
@option("Output", "--exact", is_flag=True,
        help="With --cut: begin at the very frame; encodes.")  # fmt: skip
@preset_option("retrieve")
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
    parts = {name: options.pop(name) for name in described(Ask)}
    where = Filter(**{name: options.pop(name) for name in described(Filter)})
    wanted = {name: options.pop(name) for name in described(Wanted)}
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


def _asked(sentences: tuple[str, ...], queries: str | None, parts: dict[str, Any]) -> Iterator[Any]:
    """What is asked: one question of the command line, those of a file, or lines as they come."""
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
