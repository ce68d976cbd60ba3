"""What the options of ``c4c retrieve`` and ``c4c compare`` do, through the commands themselves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from c4c.cache.open import Cache
from c4c.cli.app import group
from c4c.core import presets
from c4c.core.errors import C4CError
from c4c.extract.backbone.tiny import WEIGHTS
from c4c.retrieval import ranking

Hits = list[dict[str, Any]]
Retrieve = Callable[..., str]


@pytest.fixture(scope="module")
def heads(shapes_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that sees order and a tight one, both after a step or two."""
    here = tmp_path_factory.mktemp("heads")
    for head in ("seqLSTM", "tightTransf"):
        args = ["train-head", "--cache", str(shapes_cache), "--head", head, "--epochs", "1"]
        args += ["--layers", "1", "--batch", "24", "--out", str(here / head)]
        assert CliRunner().invoke(group, args, catch_exceptions=False).exit_code == 0
    return here


@pytest.fixture
def retrieve(shapes_cache: Path) -> Retrieve:
    """Standard output of the command on the cache of shapes."""

    def once(*args: str, cache: Path = shapes_cache) -> str:
        command = ["retrieve", "--cache", str(cache), *args]
        done = CliRunner().invoke(group, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return once


def hits(text: str) -> Hits:
    return [json.loads(line) for line in text.splitlines()]


def figures(retrieve: Retrieve, file: Path, *args: str) -> dict[str, Any]:
    """The results file of an evaluation."""
    retrieve("--evaluate", "--json", str(file), *args)
    return json.loads(file.read_text())  # type: ignore[no-any-return]


QUERY = "a red circle moves left then a star grows"


@pytest.mark.shows("retrieve", "--top-k", "--split")
def test_the_best_few_of_a_split(retrieve: Retrieve, shapes_cache: Path) -> None:
    every = hits(retrieve(QUERY, "--whole", "--top-k", "64"))
    assert len(every) == 64
    assert len(hits(retrieve(QUERY))) == 10
    few = hits(retrieve(QUERY, "--whole", "--split", "val", "--top-k", "3"))
    own = [hit["clip"] for hit in every if hit["clip"].startswith("val-")]
    assert [hit["clip"] for hit in few] == own[:3]


@pytest.mark.shows("retrieve", "--queries", "--out")
def test_sentences_from_a_file_go_to_a_file(retrieve: Retrieve, tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("a star\n\na red ring\n")
    args = ("--queries", str(tmp_path / "asked.txt"), "--top-k", "2")
    assert retrieve(*args, "--out", str(tmp_path / "found.jsonl")) == ""
    found = (tmp_path / "found.jsonl").read_text()
    assert [hit["query"] for hit in hits(found)] == ["a star", "a star", "a red ring", "a red ring"]
    assert retrieve(*args) == found


@pytest.mark.shows("retrieve", "--cache")
def test_the_cache_is_the_one_named_or_the_only_one(
    shapes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c4c-cache").mkdir()
    (tmp_path / "c4c-cache/one").symlink_to(shapes_cache)
    run = CliRunner().invoke
    found = run(group, ["retrieve", QUERY], catch_exceptions=False).stdout
    assert found == run(group, ["retrieve", QUERY, "--cache", str(shapes_cache)]).stdout
    (tmp_path / "c4c-cache/two").symlink_to(shapes_cache)
    assert "Which cache?" in str(run(group, ["retrieve", QUERY]).exception)


@pytest.mark.shows("retrieve", "--checkpoint", "--evaluate", "--json")
def test_an_evaluation_is_of_the_head_named(
    retrieve: Retrieve, heads: Path, tmp_path: Path
) -> None:
    mean = figures(retrieve, tmp_path / "a.json")
    own = figures(retrieve, tmp_path / "b.json", "--checkpoint", str(heads / "seqLSTM/best"))
    assert (mean["head"], own["head"]) == ("meanP", "seqLSTM")
    assert mean["source"]["split"] == "test"
    assert len(mean["queries"]["t2v"]) == 8
    assert own["queries"] != mean["queries"]


@pytest.mark.shows("retrieve", "--ties")
def test_the_authors_way_of_counting_ties_is_shown_beside(retrieve: Retrieve) -> None:
    assert "authors' ties" not in retrieve("--evaluate")
    assert retrieve("--evaluate", "--ties", "authors").count("authors' ties") == 2


@pytest.mark.shows("retrieve", "--shortlist")
def test_a_tight_head_looks_at_the_best_of_mean_pooling_only(
    retrieve: Retrieve, heads: Path, tmp_path: Path
) -> None:
    tight = ("--checkpoint", str(heads / "tightTransf/best"), "--split", "val", "--whole")
    mean = [hit["clip"] for hit in hits(retrieve(QUERY, "--split", "val", "--whole"))]
    order = [hit["clip"] for hit in hits(retrieve(QUERY, *tight))]
    for size in (1, 2, 8):  # the first of those in the shortlist, as the head orders them
        (first,) = hits(retrieve(QUERY, *tight, "--top-k", "1", "--shortlist", str(size)))
        assert first["clip"] == min(mean[:size], key=order.index)
    assert order[0] not in mean[:2]  # else this would show nothing
    tight = tight[:-1]
    cut = figures(retrieve, tmp_path / "a.json", *tight, "--shortlist", "3")
    assert any("only the 3 best candidates" in note for note in cut["notes"])
    whole = figures(retrieve, tmp_path / "b.json", *tight)
    assert not any("candidates" in note for note in whole["notes"])


@pytest.mark.shows("retrieve", "--rerank", "--bank")
def test_scores_are_reweighted_against_a_bank_of_queries(
    retrieve: Retrieve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks = []
    made = ranking.Rerank

    def making(kind: str, clips: Any = None, texts: Any = None) -> Any:
        banks.append((kind, None if texts is None else len(texts)))
        return made(kind, clips, texts) if texts is not None else made(kind)

    monkeypatch.setattr(ranking, "Rerank", making)
    plain = figures(retrieve, tmp_path / "a.json")
    for number, (options, bank) in enumerate(
        [
            (("--rerank", "qbnorm"), ("qbnorm", 48)),
            (("--rerank", "qbnorm", "--bank", "val"), ("qbnorm", 8)),
            (("--rerank", "dual-softmax"), ("dual-softmax", None)),
        ]
    ):
        banks.clear()
        found = figures(retrieve, tmp_path / f"{number}.json", *options)
        assert banks == [bank]
        assert len(found["notes"]) == len(plain["notes"]) + 1
    with pytest.raises(C4CError, match="--bank SPLIT, of train, val"):
        retrieve("--evaluate", "--rerank", "qbnorm", "--bank", "test")


@pytest.mark.shows("retrieve", "--max-frames", "--preset")
def test_a_clip_is_seen_by_so_many_of_its_frames(
    retrieve: Retrieve, shapes_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One frame is the first; then the score is the cosine of that one."""
    asked = (QUERY, "--split", "val", "--top-k", "8", "--whole")
    found = {hit["clip"]: hit["score"] for hit in hits(retrieve(*asked, "--max-frames", "1"))}
    from c4c.extract.backbone.load import load_backbone

    backbone = load_backbone("tiny")
    with torch.inference_mode():
        text = backbone.encode_text(backbone.tokenize([QUERY]))[0].numpy()
    clips = Cache.open(shapes_cache).clips("val")
    for place, name in enumerate(clips.ids):
        frame = np.asarray(clips.read(place)[0][0], np.float32)
        cosine = frame @ text / np.linalg.norm(frame) / np.linalg.norm(text)
        assert found[name] == pytest.approx(cosine, abs=1e-3)
    own = {"retrieve": {"max_frames": 1}}
    monkeypatch.setattr(presets, "load_presets", lambda: {"mine": {"any": own, "shapes": {}}})
    again = {hit["clip"]: hit["score"] for hit in hits(retrieve(*asked, "--preset", "mine"))}
    assert again == found
    assert {hit["clip"]: hit["score"] for hit in hits(retrieve(*asked))} != found


@pytest.mark.shows("retrieve", "--device")
def test_a_device_that_is_named_counts_more_than_a_gpu_that_seems_there(
    retrieve: Retrieve, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = retrieve(QUERY, "--device", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert retrieve(QUERY, "--device", "cpu") == wanted
    with pytest.raises(C4CError, match="--device cuda:77 cannot be used"):
        retrieve(QUERY, "--device", "cuda:77")


@pytest.mark.shows("retrieve", "--pretrained")
def test_weights_for_the_texts_may_lie_elsewhere_but_must_be_the_same(
    retrieve: Retrieve, shapes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # nobody named weights before
    moved = Path(shutil.copytree(shapes_cache, tmp_path / "cache"))
    content = json.loads((moved / "cache.json").read_text())
    content["fingerprint"]["weights"] = "/gone/weights.safetensors"
    (moved / "cache.json").write_text(json.dumps(content))
    with pytest.raises(C4CError, match=r"/gone/weights.safetensors, which was not opened"):
        retrieve(QUERY, cache=moved)
    assert retrieve(QUERY, "--pretrained", str(WEIGHTS), cache=moved) == retrieve(QUERY)
    with pytest.raises(C4CError, match="other weights"):
        retrieve(QUERY, "--pretrained", "none", cache=moved)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two results files: text to video three queries won, video to text one lost."""
    here = tmp_path_factory.mktemp("two")
    for name, ranks, back in (("a", (4, 3, 2), 1), ("b", (1, 1, 1), 5)):
        rows = [
            {"caption": f"c{n}", "clip": f"v{n}", "text": f"text {n}", "rank": rank, "ties": 1}
            for n, rank in enumerate(ranks)
        ]
        clips = [{"clip": "v0", "rank": back, "ties": 1}]
        content = {"schema": 1, "head": name, "queries": {"t2v": rows, "v2t": clips}}
        (here / f"{name}.json").write_text(json.dumps(content))
    return str(here / "a.json"), str(here / "b.json")


def compare(*args: str) -> str:
    done = CliRunner().invoke(group, ["compare", *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.shows("compare", "--direction", "--show")
def test_a_comparison_shows_so_many_queries_of_one_direction(two: tuple[str, str]) -> None:
    there = compare(*two, "--show", "2")
    assert "won: 3" in there and "lost: 0" in there
    assert "4 -> 1  text 0" in there and "3 -> 1  text 1" in there
    assert "2 -> 1" not in there
    back = compare(*two, "--direction", "v2t")
    assert "lost: 1" in back and "1 -> 5  v0" in back


@pytest.mark.shows("compare", "--seed", "--json")
def test_a_comparison_draws_by_its_seed_and_is_kept_whole(
    two: tuple[str, str], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("one", "same", "other")]
    for file, seed in zip(files, "001", strict=True):
        compare(*two, "--json", str(file), "--seed", seed)
    one, same, other = (json.loads(file.read_text()) for file in files)
    assert one == same
    assert one["queries"] == other["queries"] == 3
    assert one["differences"] != other["differences"]


@pytest.mark.shows("compare", "--html")
def test_a_comparison_is_a_page(two: tuple[str, str], tmp_path: Path) -> None:
    compare(*two, "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Won</h2>" in page
    assert "“text 0”: rank 4 to 1" in page


@pytest.mark.shows("retrieve", "--trec", "--similarity")
def test_runs_and_scores_are_written_for_other_programs(retrieve: Retrieve, tmp_path: Path) -> None:
    told = figures(
        retrieve, tmp_path / "r.json", "--split", "test",
        "--trec", str(tmp_path / "run"), "--similarity", str(tmp_path / "s.npy"),
    )  # fmt: skip
    scores, ids = np.load(tmp_path / "s.npy"), json.loads((tmp_path / "s.ids.json").read_text())
    assert scores.shape == (len(ids["captions"]), len(ids["clips"]))
    first = {line.split()[0]: line.split()[2] for line in reversed(
        (tmp_path / "run.t2v.run").read_text().splitlines())}  # fmt: skip
    best = {
        name: ids["clips"][row.argmax()]
        for (name, _), row in zip(ids["captions"], scores, strict=True)
    }
    alone = [row["caption"] for row in told["queries"]["t2v"] if row["rank"] == 1.0]
    assert alone
    assert all(first[name] == best[name] for name in alone)
