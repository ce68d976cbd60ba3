"""What the options of moments, questions and filters do, through the commands themselves."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from c4c.cli.app import group
from c4c.core.errors import C4CError

QUERY = "a red circle moves left then a white cross grows"
OTHER = "a blue square grows then a green triangle moves up"
Hits = list[dict[str, Any]]
Ask = Callable[..., Hits]


def run(*args: str, **more: Any) -> Result:
    done = CliRunner().invoke(group, args, catch_exceptions=False, **more)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def cache(shapes_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own: its gallery is looked at."""
    return Path(shutil.copytree(shapes_cache, tmp_path_factory.mktemp("moments") / "cache"))


@pytest.fixture
def ask(cache: Path) -> Ask:
    """Hits of the command."""

    def asked(*args: str, **more: Any) -> Hits:
        done = run("retrieve", "--cache", str(cache), *args, **more)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return asked


def clips(hits: Hits) -> list[str]:
    return [hit["clip"] for hit in hits]


@pytest.mark.shows("retrieve", "--whole")
def test_answers_are_moments_or_whole_clips(ask: Ask) -> None:
    moments, whole = ask(QUERY), ask(QUERY, "--whole")
    assert all(0 <= hit["start"] <= hit["best"] < hit["end"] <= 8 for hit in moments)
    assert any(hit["start"] > 0 for hit in moments)
    assert all((hit["start"], hit["end"], hit["best"]) == (0, None, None) for hit in whole)
    assert moments[0]["clip"] in clips(whole)


@pytest.mark.shows("retrieve", "--window", "--hop")
def test_moments_are_as_long_as_the_windows(ask: Ask) -> None:
    narrow = ask(QUERY, "--window", "2", "--hop", "2")
    assert max(hit["end"] - hit["start"] for hit in narrow) <= 3  # an edge may snap to a shot
    wide = ask(QUERY, "--window", "8")
    assert max(hit["end"] - hit["start"] for hit in wide) > 3
    starts = {hit["start"] for hit in ask(QUERY, "--window", "2", "--hop", "1", "--top-k", "64")}
    assert starts - {hit["start"] for hit in narrow}


@pytest.mark.shows("retrieve", "--per-video")
def test_one_video_answers_so_often_at_most(ask: Ask) -> None:
    often = clips(ask(QUERY, "--top-k", "100", "--window", "2"))
    assert len(set(often)) < len(often)
    once = clips(ask(QUERY, "--top-k", "100", "--window", "2", "--per-video", "1"))
    assert len(set(once)) == len(once)


@pytest.mark.shows("retrieve", "--min-confidence")
def test_hits_that_are_not_sure_are_left_out_and_a_line_says_when_nothing_fits(
    ask: Ask, cache: Path
) -> None:
    every = ask(QUERY)
    least = every[4]["confidence"]
    assert 0 < least < every[0]["confidence"] <= 1
    assert ask(QUERY, "--min-confidence", str(least)) == every[:5]
    done = run("retrieve", "--cache", str(cache), QUERY, "--min-confidence", "1")
    assert done.stdout == ""
    assert "nothing here seems to fit this question" in done.stderr
    assert "nothing here" not in run("retrieve", "--cache", str(cache), QUERY).stderr


@pytest.mark.shows("retrieve", "--weight", "--not")
def test_sentences_are_weighed_and_others_avoided(ask: Ask) -> None:
    assert (
        ask(QUERY, OTHER, "--weight", "1", "--weight", "1e-6", "--top-k", "3")[0]["clip"]
        == (ask(QUERY)[0]["clip"])
    )
    assert (
        ask(QUERY, OTHER, "--weight", "1e-6", "--weight", "1")[0]["clip"] == ask(OTHER)[0]["clip"]
    )
    every = ("--whole", "--top-k", "64")
    part = "a white cross grows"
    plain, without = ask(QUERY, *every), ask(QUERY, "--not", part, *every)
    unwanted = ask(part, "--whole")[0]["clip"]
    assert clips(plain).index(unwanted) < clips(without).index(unwanted)
    assert without[0]["query"] == f"{QUERY} - {part}"
    with pytest.raises(C4CError, match="There are 1 weights for 2 sentences"):
        ask(QUERY, OTHER, "--weight", "1")


@pytest.mark.shows("retrieve", "--like")
def test_a_second_of_a_video_finds_itself(ask: Ask) -> None:
    path = ask(QUERY)[0]["path"]
    hits = ask("--like", f"{path}@5", "--window", "1", "--hop", "1")
    assert (hits[0]["path"], hits[0]["best"]) == (path, 5.0)
    assert hits[0]["score"] == pytest.approx(1, abs=1e-3)
    assert ask("--like", path, "--whole")[0]["path"] == path
    with pytest.raises(C4CError, match="no clip of .*99 s, is in"):
        ask("--like", f"{path}@99")


@pytest.mark.shows("retrieve", "--texts")
def test_sentences_of_a_file_are_ranked_by_how_they_fit_a_video(
    ask: Ask, shapes_root: Path, tmp_path: Path
) -> None:
    """By definition: the cosine of each sentence with the video, which a search gives too."""
    path = str(shapes_root / "videos/val-00002-b.mp4")
    sentences = [QUERY, OTHER, "a star", "people", QUERY]
    lines = [json.dumps({"query": text, "id": n}) for n, text in enumerate(sentences)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    texts = ("--texts", str(tmp_path / "texts.jsonl"))
    found = ask("--like", path, *texts, "--top-k", "4")
    cosines = {
        text: next(hit for hit in ask(text, "--whole", "--path", path))["score"]
        for text in set(sentences)
    }
    order = sorted(range(5), key=lambda n: -cosines[sentences[n]])
    assert [hit["id"] for hit in found] == order[:4]
    assert [hit["rank"] for hit in found] == [1, 2, 3, 4]
    assert [hit["score"] for hit in found] == pytest.approx(
        [cosines[hit["text"]] for hit in found], abs=2e-3
    )
    with pytest.raises(C4CError, match="pass --like VIDEO"):
        ask(QUERY, *texts)


@pytest.mark.shows("retrieve", "--interactive")
def test_it_keeps_asking(ask: Ask) -> None:
    hits = ask("--interactive", "--top-k", "1", input=f"{QUERY}\n\n{OTHER}\n")
    assert hits == [*ask(QUERY, "--top-k", "1"), *ask(OTHER, "--top-k", "1")]


@pytest.mark.shows("retrieve", "--path", "--folder", "--caption")
def test_only_clips_that_fit_may_answer(ask: Ask, shapes_root: Path) -> None:
    every = set(clips(ask(QUERY, "--whole", "--top-k", "100")))
    val = {name for name in every if name.startswith("val")}
    assert set(clips(ask(QUERY, "--whole", "--top-k", "100", "--path", "VAL-*"))) == val
    videos = str(shapes_root / "videos")
    assert len(ask(QUERY, "--whole", "--top-k", "100", "--folder", videos)) == len(every)
    assert ask(QUERY, "--folder", str(shapes_root / "vide")) == []
    rows = [json.loads(line) for line in (shapes_root / "captions.jsonl").open()]
    crosses = {row["clip"] for row in rows if "white cross" in row["caption"]}
    found = ask(QUERY, "--whole", "--top-k", "100", "--caption", "White CROSS")
    assert set(clips(found)) == crosses
    assert set(clips(ask(QUERY, "--caption", "white cross", "--top-k", "100"))) <= crosses


@pytest.mark.shows("retrieve", "--after", "--before", "--longer", "--shorter")
def test_only_clips_of_some_days_and_lengths_may_answer(ask: Ask, shapes_root: Path) -> None:
    old = shapes_root / "videos/val-00000-a.mp4"
    about = old.stat()
    os.utime(old, (1e9, 1e9))  # 2001-09-09
    try:
        assert set(clips(ask(QUERY, "--before", "2001-09-09"))) == {"val-00000-a"}
        assert "val-00000-a" not in clips(ask(QUERY, "--after", "2001-09-10", "--top-k", "200"))
        assert ask(QUERY, "--before", "2001-09-08") == []
        with pytest.raises(C4CError, match="--after is 'May', expected a day"):
            ask(QUERY, "--after", "May")
    finally:
        os.utime(old, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert len(ask(QUERY, "--longer", "8", "--shorter", "8")) == 10
    assert ask(QUERY, "--longer", "8.5") == ask(QUERY, "--shorter", "7.5") == []


@pytest.mark.shows("retrieve", "--missing")
def test_hits_of_files_that_are_gone_say_so_or_are_hidden(ask: Ask) -> None:
    first, second = ask(QUERY, "--top-k", "2", "--per-video", "1")
    moved = Path(first["path"]).rename(Path(first["path"]).with_suffix(".away"))
    try:
        (told,) = ask(QUERY, "--top-k", "1")
        assert told["notes"] == ["missing: the video file does not exist"]
        (shown,) = ask(QUERY, "--top-k", "1", "--missing", "hide")
        assert shown["path"] == second["path"]
    finally:
        moved.rename(first["path"])
    assert first["notes"] == []


@pytest.mark.shows("index", "--window", "--hop", "--compact", "--max-frames", "--device")
def test_a_gallery_is_made_beforehand(cache: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(cache, tmp_path / "cache"))
    shutil.rmtree(own / "gallery")

    def index(*args: str) -> str:
        return run("index", str(own), *args).stdout

    told = index("--device", "cpu")
    assert "64 clips" in told and " pieces, " in told  # one a split
    (folder,) = (own / "gallery").iterdir()
    pieces = {path: path.stat().st_mtime_ns for path in folder.glob("piece-*")}
    assert index() == told
    assert {path: path.stat().st_mtime_ns for path in folder.glob("piece-*")} == pieces
    assert index("--compact") == told
    for option in (("--window", "2"), ("--hop", "4"), ("--max-frames", "2")):
        before = set((own / "gallery").iterdir())
        index(*option)
        assert len(set((own / "gallery").iterdir()) - before) == 1
    with pytest.raises(C4CError, match="cuda:77"):
        index("--device", "cuda:77")


@pytest.mark.shows("index", "--verify")
def test_a_gallery_is_verified(cache: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(cache, tmp_path / "cache"))
    run("index", str(own), "--verify")
    for piece in own.glob("gallery/*/piece-*"):
        data = bytearray(piece.read_bytes())
        data[-1] ^= 1
        piece.write_bytes(data)
    done = CliRunner().invoke(group, ["index", str(own), "--verify"])
    assert done.exit_code == 3
    assert "differs from its checksum" in done.stdout


@pytest.mark.shows("index", "--checkpoint", "--pretrained")
def test_a_gallery_is_of_a_head_and_of_the_caches_weights(cache: Path, tmp_path: Path) -> None:
    from c4c.extract.backbone.tiny import WEIGHTS
    from c4c.heads import build_head
    from c4c.heads.checkpoint import save_checkpoint

    torch.manual_seed(0)
    save_checkpoint(tmp_path / "run", build_head("seqTransf", 128, layers=1), {})
    own = Path(shutil.copytree(cache, tmp_path / "cache"))
    before = set((own / "gallery").iterdir())
    run("index", str(own), "--checkpoint", str(tmp_path / "run"), "--pretrained", str(WEIGHTS))
    assert len(set((own / "gallery").iterdir()) - before) == 1
    shutil.rmtree(own / "gallery")
    with pytest.raises(C4CError, match="other weights than 'none'"):
        run("index", str(own), "--pretrained", "none")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.json", json.dumps([QUERY, {"query": OTHER, "id": "7"}])),
        ("q.csv", f'id,Query,year\n,"{QUERY}",1\n7,"{OTHER}",2\n'),
        ("q.tsv", f"sentence\tid\n{QUERY}\t\n{OTHER}\t7\n"),
        ("q.jsonl", f'{{"query": "{QUERY}"}}\n{{"query": "{OTHER}", "id": "7"}}\n'),
    ],
)
def test_files_of_queries_are_read_by_their_form(
    ask: Ask, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    hits = ask("--queries", str(tmp_path / name), "--top-k", "1")
    assert [hit["query"] for hit in hits] == [QUERY, OTHER]
    assert hits[1]["id"] == "7"


def test_a_line_of_json_asks_as_the_options_do(ask: Ask, tmp_path: Path) -> None:
    line = {"query": [QUERY, OTHER], "weights": [1, 0.5], "avoid": ["a star"]}
    (tmp_path / "q").write_text(json.dumps(line))
    found = ask("--queries", str(tmp_path / "q"))
    assert found == ask(QUERY, OTHER, "--weight", "1", "--weight", "0.5", "--not", "a star")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("q.json", '{"query": "a"}', "is not a list of queries"),
        ("q.json", '["a", 3]', "query 2"),
        ("q.csv", "a dog\na cat\n", "no column 'query' in its header"),
        ("q.csv", "query\na dog\n \n", "line 3 has an empty query"),
        ("q", '{"query": ["a", "b"], "weights": [1]}', "line 1: There are 1 weights"),
    ],
)
def test_files_that_ask_wrongly_are_refused_in_a_line(
    ask: Ask, tmp_path: Path, name: str, content: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(C4CError, match=words):
        ask("--queries", str(tmp_path / name))


def test_blank_and_overlong_questions_are_told(ask: Ask, cache: Path) -> None:
    with pytest.raises(C4CError, match="A query is empty"):
        ask("  ")
    done = run("retrieve", "--cache", str(cache), "a red " * 60, "--top-k", "1")
    assert "what goes beyond them is not read" in done.stderr


def test_a_tight_head_orders_moments_by_its_own_score(
    ask: Ask, cache: Path, tmp_path: Path
) -> None:
    from c4c.heads import build_head
    from c4c.heads.checkpoint import save_checkpoint

    torch.manual_seed(0)
    save_checkpoint(tmp_path / "run", build_head("tightTransf", 128, layers=1), {})
    tight = ask(QUERY, "--checkpoint", str(tmp_path / "run"), "--shortlist", "6", "--top-k", "6")
    mean = ask(QUERY, "--top-k", "6")
    assert {(hit["clip"], hit["start"]) for hit in tight} == {
        (hit["clip"], hit["start"]) for hit in mean
    }
    assert [hit["score"] for hit in tight] == sorted((hit["score"] for hit in tight), reverse=True)
    with pytest.raises(C4CError, match="needs a head with a vector a clip"):
        ask(QUERY, "--not", OTHER, "--checkpoint", str(tmp_path / "run"))
