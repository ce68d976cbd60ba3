"""The README's commands, as a user types them, on a folder of small real videos."""

import json
import subprocess
from pathlib import Path

import pytest
import warm

from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes


def run(
    folder: Path, *args: str, stdin: str = "", code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = warm.run([*warm.C4C, *args], cwd=folder, input=stdin)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with videos, captions and an extracted cache."""
    here = tmp_path_factory.mktemp("street")
    make_shapes(here / "made", Recipe(seed=9, train=24, val=4, test=4))
    (here / "c4c.toml").write_text('[extract]\nbackbone = "tiny"\nworkers = 1\n')
    run(
        here, "extract", "--dataset", "folder", "--root", "made/videos",
        "--captions", "made/captions.jsonl", "--split", "train", "--split", "val",
        "--split", "test",
    )  # fmt: skip
    return here


def test_a_sentence_finds_clips(folder: Path) -> None:
    done = run(folder, "retrieve", "a red circle moves left then a blue square grows")
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert [hit["rank"] for hit in hits] == list(range(1, 11))
    assert sorted((hit["score"] for hit in hits), reverse=True) == [hit["score"] for hit in hits]
    assert all(Path(folder, hit["path"]).is_file() for hit in hits)
    assert set(hits[0]) == {
        *("query", "rank", "score", "confidence", "clip", "path", "start", "end", "best", "notes")
    }


def test_the_shipped_backbone_finds_what_a_caption_says(folder: Path) -> None:
    """Not chance: most captions of the val split find a clip with the same two things in it."""
    rows = [json.loads(line) for line in (folder / "made/captions.jsonl").read_text().splitlines()]
    captions = {row["clip"]: row["caption"] for row in rows}
    queries = [row["caption"] for row in rows if row["split"] == "train"]
    done = run(folder, "retrieve", "--queries", "-", "--top-k", "1", stdin="\n".join(queries))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(queries)
    shared = [
        len(set(hit["query"].split()) & set(captions[hit["clip"]].split())) >= 5 for hit in found
    ]
    assert sum(shared) > 0.7 * len(found)


def test_queries_go_to_a_file_of_json_lines(folder: Path) -> None:
    (folder / "queries.jsonl").write_text('{"query": "a red circle"}\n\n{"query": "a star"}\n')
    run(folder, "retrieve", "--queries", "queries.jsonl", "--top-k", "3", "--out", "hits.jsonl")
    hits = [json.loads(line) for line in (folder / "hits.jsonl").read_text().splitlines()]
    assert [hit["query"] for hit in hits] == ["a red circle"] * 3 + ["a star"] * 3


def test_a_head_trains_and_is_evaluated(folder: Path) -> None:
    done = run(folder, "train-head", "--head", "seqLSTM", "--epochs", "2", "--batch", "8")
    assert json.loads(done.stdout)["steps"] == 6
    best = "c4c-runs/seqLSTM-folder/best"
    done = run(folder, "retrieve", "--evaluate", "--checkpoint", best, "--ties", "authors",
               "--json", "figures.json")  # fmt: skip
    assert "text to video" in done.stdout
    held = json.loads((folder / "figures.json").read_text())
    assert 0 <= held["metrics"]["t2v"]["r1"] <= 100


def test_two_evaluations_are_compared_query_by_query_with_thumbnails(folder: Path) -> None:
    """After the training above: the trained head against mean pooling."""
    for name, more in (
        ("a.json", []),
        ("b.json", ["--checkpoint", "c4c-runs/seqLSTM-folder/best"]),
    ):
        run(folder, "retrieve", "--evaluate", "--split", "train", "--json", name, *more)
    done = run(folder, "compare", "a.json", "b.json", "--html", "changes.html")
    assert "24 queries, from meanP (a.json) to seqLSTM (b.json)" in done.stdout
    page = (folder / "changes.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 2
    assert "http:" not in page
    assert "https:" not in page


def test_end_to_end_leaves_a_backbone_for_extraction(folder: Path) -> None:
    run(
        folder, "train-e2e", "--dataset", "folder", "--root", "made/videos",
        "--captions", "made/captions.jsonl", "--head", "meanP", "--epochs", "1", "--batch", "8",
        "--backbone", "tiny", "--eval-split", "none", "--workers", "1",
    )  # fmt: skip
    best = "c4c-runs/meanP-folder-e2e/best"
    run(
        folder, "extract", "--dataset", "folder", "--root", "made/videos", "--cache", "again",
        "--pretrained", best,
    )  # fmt: skip
    run(folder, "cache", "verify", "again")
    run(folder, "export-checkpoint", best, "--out", "theirs.bin")
    run(folder, "import-checkpoint", "theirs.bin", "--out", "back")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["retrieve"], "Pass one of"),
        (["retrieve", "a", "--cache", "nothing"], "not a feature cache"),
        (["retrieve", "--queries", "missing.txt"], "missing.txt"),
        (["retrieve", "a", "--checkpoint", "nothing"], "nothing"),
        (["train-head", "--head", "seqLSTM", "--cache", "nothing"], "not a feature cache"),
        (["train-head", "--head", "noHead"], "'noHead' is not one of 'meanP', "),
        (["extract", "--dataset", "noData"], "noData"),
        (["extract", "--dataset", "folder", "--root", "nothing"], "nothing"),
        (["extract", "--dataset", "folder", "--root", "made/videos", "--pretrained", "none",
          "--captions", "made/captions.jsonl"], "other settings"),
        (["dataset", "check", "lsmdc", "--root", "made"], "LSMDC16_annos_training.csv"),
        (["train-e2e", "--dataset", "folder", "--root", "made", "--head", "meanP"], "train"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line_and_exit_2(folder: Path, args: list[str], words: str) -> None:
    done = run(folder, *args, code=2)
    assert words in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("c4c:")]) == 1


def test_the_check_of_a_dataset_prints_a_table(folder: Path) -> None:
    done = run(folder, "dataset", "check", "shapes", "--root", "made")
    assert "expected" in done.stdout
    assert "test" in done.stdout
