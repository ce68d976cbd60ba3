"""``c4c retrieve``: find clips for sentences, or evaluate a head."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from c4c.cli.presets import preset_option
from c4c.core.errors import C4CError


@click.command()
@preset_option("retrieve")
@click.argument("sentence", required=False)
@click.option("--cache", type=click.Path(path_type=Path),
              help="Feature cache. [the one below c4c-cache/]")  # fmt: skip
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Trained head. [mean pooling]")
@click.option("--evaluate", is_flag=True, help="Evaluate on a split with captions.")
@click.option("--queries", help="File of sentences, one a line or JSON lines; - is stdin.")
@click.option("--split", help="Split to use. [all; test with --evaluate]")
@click.option("--top-k", default=10, show_default=True, help="Clips a query.")
@click.option("--ties", type=click.Choice(["expected", "authors"]), default="expected",
              show_default=True, help="authors: show their column too.")  # fmt: skip
@click.option("--shortlist", type=int,
              help="Clips that a tight head looks at. [100; all with --evaluate]")  # fmt: skip
@click.option("--rerank", type=click.Choice(["none", "qbnorm", "dual-softmax"]), default="none",
              show_default=True, help="Against hubs; figures are labelled.")  # fmt: skip
@click.option("--bank", help="Split of QB-Norm's queries. [that of the training, or train]")
@click.option("--max-frames", type=int, help="Frames a clip. [as trained]")
@click.option("--out", type=click.Path(path_type=Path), help="JSON lines to this file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="With --evaluate: figures and every query's rank.")  # fmt: skip
@click.option("--trec", type=click.Path(path_type=Path), metavar="PREFIX",
              help="With --evaluate: TREC runs and qrels, PREFIX.t2v.run and so on.")  # fmt: skip
@click.option("--similarity", type=click.Path(path_type=Path), metavar="FILE.npy",
              help="With --evaluate: all scores, captions by clips.")  # fmt: skip
@click.option("--device", help="cpu, cuda, cuda:1. [a GPU when there is one]")
@click.option("--pretrained", help="Weights for the texts. [those of the cache]")
@click.option("--tokenizer", type=click.Path(path_type=Path),
              help="The one that the cache was made with. [as it was passed then]")  # fmt: skip
def command(
    sentence: str | None,
    evaluate: bool,
    queries: str | None,
    out: Path | None,
    json_path: Path | None,
    trec: Path | None,
    similarity: Path | None,
    **options: Any,
) -> None:
    """Find the clips that a SENTENCE describes, or evaluate a head with --evaluate.

    One sentence prints a table on a terminal; a file of queries, or no terminal, JSON lines.
    """
    from c4c.retrieval.session import RetrieveConfig, read_queries

    config = RetrieveConfig(**options)
    if sum(map(bool, (sentence, evaluate, queries))) != 1:
        raise C4CError("Pass one of: a sentence, --queries FILE, or --evaluate.")
    if evaluate:
        _evaluate(config, json_path, trec, similarity)
        return
    if trec or similarity or json_path:
        raise C4CError("--trec, --similarity and --json are for --evaluate; --out takes hits.")
    terminal = sys.stdout is not None and sys.stdout.isatty()
    asked = read_queries(queries) if queries else iter([str(sentence)])
    _search(config, asked, out, as_table=bool(sentence) and terminal and not out)


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


def _search(config: Any, asked: Iterator[str], out: Path | None, as_table: bool) -> None:
    import json

    from c4c.core.files import write_atomic
    from c4c.core.terminal import tell
    from c4c.retrieval.session import run_search
    from c4c.retrieval.table import hits_table

    hits = run_search(config, asked)
    if as_table:
        tell(*hits_table(list(hits)).split("\n"))
        return
    lines = (json.dumps(hit.as_dict()) for hit in hits)  # ASCII: no character can split a line
    if out:
        write_atomic(out, lambda target: _write_lines(target, lines))
        return
    for line in lines:
        tell(line)


def _write_lines(target: Path, lines: Iterator[str]) -> None:
    with target.open("w", encoding="ascii") as stream:
        stream.writelines(line + "\n" for line in lines)
