"""``c4c retrieve``: find clips for sentences, or evaluate a head."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from c4c.errors import C4CError
from c4c.presets import preset_option


@click.command()
@preset_option("retrieve")
@click.argument("sentence", required=False)
@click.option("--cache", type=click.Path(path_type=Path), help="[the one below c4c-cache/]")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Trained head. [mean pooling]")
@click.option("--evaluate", is_flag=True, help="Evaluate on a split with captions.")
@click.option("--queries", help="File of sentences, one a line or JSON lines; - is stdin.")
@click.option("--split", help="Split to use. [all; test with --evaluate]")
@click.option("--top-k", type=click.IntRange(1, 1024), default=10, show_default=True)
@click.option("--ties", type=click.Choice(["expected", "authors"]), default="expected",
              show_default=True, help="authors: show their column too.")  # fmt: skip
@click.option("--shortlist", type=click.IntRange(1, 1024),
              help="Clips that a tight head looks at. [100; all with --evaluate]")  # fmt: skip
@click.option("--rerank", type=click.Choice(["none", "qbnorm", "dual-softmax"]), default="none",
              show_default=True, help="Against hubs; figures are labelled.")  # fmt: skip
@click.option("--bank", help="Split of QB-Norm's queries. [that of the training, or train]")
@click.option("--max-frames", type=click.IntRange(1), help="Frames a clip. [as trained]")
@click.option("--out", type=click.Path(path_type=Path), help="JSON lines to this file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="With --evaluate: figures and every query's rank.")  # fmt: skip
@click.option("--trec", type=click.Path(path_type=Path), metavar="PREFIX",
              help="With --evaluate: TREC runs and qrels, PREFIX.t2v.run and so on.")  # fmt: skip
@click.option("--similarity", type=click.Path(path_type=Path), metavar="FILE.npy",
              help="With --evaluate: all scores, captions by clips.")  # fmt: skip
@click.option("--device", help="cpu, cuda, cuda:1. [a GPU when there is one]")
@click.option("--pretrained", help="Weights for the texts. [those of the cache]")
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
    from c4c.retrieve import RetrieveConfig, read_queries

    config = RetrieveConfig(**options)
    if sum(map(bool, (sentence, evaluate, queries))) != 1:
        raise C4CError("Pass one of: a sentence, --queries FILE, or --evaluate.")
    if evaluate:
        _evaluate(config, json_path, trec, similarity)
        return
    if trec or similarity or json_path:
        raise C4CError("--trec, --similarity and --json are for --evaluate; --out takes hits.")
    asked = read_queries(queries) if queries else [str(sentence)]
    _search(config, asked, out, as_table=bool(sentence) and sys.stdout.isatty() and not out)


def _evaluate(
    config: Any, json_path: Path | None, trec: Path | None, similarity: Path | None
) -> None:
    from c4c.files import write_json
    from c4c.progress import say
    from c4c.retrieval.export import tied_note, write_similarity, write_trec
    from c4c.retrieval.table import evaluation_table
    from c4c.retrieve import run_evaluate

    found = run_evaluate(config)
    click.echo(evaluation_table(found))
    if json_path:
        write_json(json_path, found.as_dict())
    if trec:
        say(f"written: {', '.join(map(str, write_trec(found, trec)))}{tied_note(found)}")
    if similarity:
        say(f"written: {', '.join(map(str, write_similarity(found, similarity)))}")


def _search(config: Any, asked: list[str], out: Path | None, as_table: bool) -> None:
    import json

    from c4c.files import write_atomic
    from c4c.retrieval.table import hits_table
    from c4c.retrieve import run_search

    hits = run_search(config, asked)
    if as_table:
        click.echo(hits_table(list(hits)))
    elif out:
        lines = "".join(json.dumps(hit.as_dict(), ensure_ascii=False) + "\n" for hit in hits)
        write_atomic(out, lines.encode("utf-8", "surrogateescape"))
    else:
        for hit in hits:
            click.echo(json.dumps(hit.as_dict(), ensure_ascii=False))
