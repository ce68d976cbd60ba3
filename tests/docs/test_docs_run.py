"""Blocks of README and docs that are marked ``run`` are carried out, as by a reader who follows.

Those of a page run one after the other, as they stand, in a folder where what they name exists
and ``c4c.toml`` makes everything small: shapes for videos, the shipped backbone, one epoch. Only
``SMALLER`` is read as something else.
"""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from docs_blocks import Block, Command, blocks, commands

from c4c.cli.app import main
from c4c.extract.backbone.load import load_backbone
from c4c.extract.datasets.lsmdc import FILES
from c4c.heads import build_head
from c4c.interop.authors import to_authors

RUN = [block for block in blocks("sh", "python") if block.run]
PAGES_RUN = list(dict.fromkeys(block.page for block in RUN))
WITH_SHAPES = (
    "retrieval.md",
    "cache-format.md",
    "python.md",
)  # they speak of a cache that is there
# Sizes of the real thing, and backbones that would have to be downloaded.
SMALLER = {
    "--seeds": "1", "--epochs": "1", "--batch": "8", "--train": "16", "--val": "4", "--test": "4",
    "ViT-B-32": "tiny",
}  # fmt: skip
SETTINGS = """
[datasets.lsmdc]
root = "lsmdc"
[datasets.shapes]
root = "{shapes}"
[extract]
backbone = "tiny"
workers = 1
[train-head]
epochs = 1
batch = 4
layers = 1
[train-e2e]
backbone = "tiny"
epochs = 1
batch = 4
layers = 1
workers = 1
[study]
set = ["epochs=1", "layers=1"]
workers = 1
"""


def test_there_are_blocks_to_run() -> None:
    assert len(RUN) >= 12
    assert {page.name for page in PAGES_RUN} >= {"README.md", "heads.md", "retrieval.md"}


@pytest.fixture(scope="module")
def films(shapes_root: Path) -> dict[str, list[tuple[Path, str]]]:
    """Some videos of each split with their captions."""
    rows = [json.loads(line) for line in (shapes_root / "captions.jsonl").read_text().splitlines()]
    found: dict[str, list[tuple[Path, str]]] = {"train": [], "val": [], "test": []}
    for row in rows:
        path = next((shapes_root / "videos").rglob(f"{row['clip']}.mp4"))
        found[row["split"]].append((path, row["caption"]))
    return {split: own[:8] for split, own in found.items()}


@pytest.fixture(scope="module")
def made(
    films: dict[str, list[tuple[Path, str]]], shapes_root: Path, shapes_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """What blocks may name: videos, captions, a benchmark, weights, a training, evaluations."""
    here = tmp_path_factory.mktemp("docs")
    (here / "c4c.toml").write_text(SETTINGS.format(shapes=shapes_root))
    (here / "sentences.txt").write_text("a red circle moves left\na star grows\n")
    for folder in ("home/videos", "home/my-data", "lsmdc/films"):
        (here / folder).mkdir(parents=True)
    captions = ["clip,caption,split"]
    for split, file in FILES.items():
        lines = []
        for number, (path, text) in enumerate(films[split]):
            film = f"{number:04d}_Film_{split}_00.00.51.926-00.00.54.129"
            shutil.copy(path, here / f"lsmdc/films/{film}.avi")
            lines.append("\t".join([film, *["00.00.51,926"] * 4, text]))
            if split != "val":
                captions.append(f"{path.name},{text},{split}")
                for folder in ("videos", "my-data"):
                    shutil.copy(path, here / "home" / folder)
        (here / "lsmdc" / file).write_text("\n".join(lines) + "\n")
    shutil.copytree(here / "home/videos", here / "videos")
    (here / "captions.csv").write_text("\n".join(captions) + "\n")
    (here / "home/my-data/metadata.csv").write_text("\n".join(captions) + "\n")
    backbone = load_backbone("tiny")
    head = build_head("seqTransf", backbone.embed_dim, backbone.head_init())
    state = to_authors("seqTransf", head.state_dict(), backbone.model.state_dict())
    torch.save(state, here / "pytorch_model.bin.4")
    return here


@pytest.fixture(scope="module")
def with_shapes(made: Path, shapes_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with the cache of shapes, a head that was trained on it, and two evaluations.

    The evaluations are put into the other folder too.
    """
    here = Path(shutil.copytree(made, tmp_path_factory.mktemp("shapes") / "docs"))
    shutil.copytree(shapes_cache, here / "c4c-cache/shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        carry_out(patch, "c4c train-head --head seqTransf")
        carry_out(patch, "c4c retrieve --evaluate --json a.json")
        best = "c4c-runs/seqTransf-shapes/best"
        carry_out(patch, f"c4c retrieve --evaluate --json b.json --checkpoint {best}")
    for name in ("a.json", "b.json"):
        shutil.copy(here / name, made)
    return here


def carry_out(patch: pytest.MonkeyPatch, text: str) -> None:
    """Run the commands of a text; each has to end well."""
    for command in commands(text):
        first, *rest = command.words
        if first == "c4c":
            patch.setattr(sys, "argv", ["c4c", *smaller(rest)])
            with pytest.raises(SystemExit) as left:
                main()
            assert not left.value.code, f"{shlex.join(command.words)} ended with {left.value.code}"
        elif command == Command(("python", "-"), command.stdin):
            exec(compile(command.stdin, "<docs>", "exec"), {"__name__": "docs"})
        else:
            assert first == "echo"


def smaller(words: list[str]) -> list[str]:
    """The same command with small numbers, and as a shell would have read it."""
    found = [os.path.expanduser(SMALLER.get(word, word)) if not word.startswith("-") else word
             for word in words]  # fmt: skip
    for place, word in enumerate(words[:-1]):
        if word.startswith("--") and word in SMALLER:
            found[place + 1] = SMALLER[word]
    return found


@pytest.mark.parametrize("page", PAGES_RUN, ids=lambda page: page.name)
def test_a_page_runs_from_its_first_command_to_its_last(
    page: Path, made: Path, with_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(with_shapes if page.name in WITH_SHAPES else made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here/home"))
    names = {"__name__": "docs"}  # what one block of Python names, the next may use
    for block in RUN:
        if block.page == page and block.kind == "python":
            exec(compile(block.text, str(block), "exec"), names)
        elif block.page == page:
            carry_out(monkeypatch, block.text)


@pytest.mark.parametrize(
    "block", [one for one in blocks("python") if not one.run and not one.file], ids=str
)
def test_a_snippet_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), "exec"), {"__name__": "docs"})


def test_an_export_for_faiss_is_searched_as_the_page_says(
    with_shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("faiss")
    # As if this gallery were a large one.
    monkeypatch.setattr("c4c.retrieval.gallery_faiss.LEAST", 1)
    monkeypatch.setattr("c4c.retrieval.gallery_faiss._BITS", 4)
    shutil.copytree(with_shapes, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    (block,) = [one for one in blocks("sh") if "FaissGallery" in one.text]
    carry_out(monkeypatch, block.text)
    assert "'image_path'" in capsys.readouterr().out


def test_a_command_that_fails_would_be_noticed(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the check."""
    monkeypatch.chdir(tmp_path)
    for wrong in ("c4c cache info nothing", "c4c retrieve", "c4c nothing"):
        with pytest.raises(AssertionError, match="ended with 2"):
            carry_out(monkeypatch, wrong)
