"""Whoever follows docs/howto/write-a-*.md to the letter has a tested head, dataset or kernel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_blocks import ROOT, Block, blocks

ROOMS = [path.name for path in (ROOT / "src/c4c").iterdir() if path.is_symlink()]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of c4c: rooms, links, and the tests that look at registries."""
    here = tmp_path / "c4c"
    for name in [*ROOMS, "src", "tests/heads", "tests/datasets", "tests/kernels", "tests/support"]:
        shutil.copytree(ROOT / name, here / name, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))  # fmt: skip
    for name in ("tests/conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, here / name)
    return here


def follow(page: str, house: Path, leaving: str = "") -> None:
    """Do what a page says: new files are written, lines go into tables, the rest to the end."""
    for block in blocks("python"):
        if block.page.name != page or not block.file or block.file == leaving:
            continue
        path = house / block.file
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        elif is_entry(block):
            text = path.read_text()
            table = re.search(r"(?s)(Registry\(|_HOME = ).*?(?=\n *\})", text)
            assert table is not None
            end = table.end()
            path.write_text(f"{text[:end]}\n{block.text.rstrip()}{text[end:]}")
        else:
            path.write_text(path.read_text() + block.text)


def is_entry(block: Block) -> bool:
    """Whether a block is one line of a table."""
    return re.fullmatch(r'\s*"[\w.]+": "[\w.:]+",\s*', block.text) is not None


def outcome_of(house: Path, *words: str) -> tuple[int, str]:
    """Tests of the copy: how they ended, and what they said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    environment = {**os.environ, "PYTHONPATH": str(house / "src")}
    done = subprocess.run(
        command, cwd=house, env=environment, capture_output=True, text=True, timeout=240
    )
    return done.returncode, done.stdout + done.stderr


def passed(words: str) -> int:
    return int((re.search(r"(\d+) passed", words) or ["", "0"])[1])


def test_a_head_is_one_file_and_one_line_and_is_tested_at_once(house: Path) -> None:
    follow("write-a-head.md", house)
    code, words = outcome_of(house, "tests/heads/test_heads.py", "-k", "maxP or unknown")
    assert code == 0, words
    assert passed(words) >= 14


def test_a_dataset_is_one_file_and_one_line_and_is_missed_by_the_tests_until_it_has_its_own(
    house: Path,
) -> None:
    conftest = "tests/datasets/conftest.py"
    follow("write-a-dataset.md", house, leaving=conftest)
    where = ("tests/datasets/test_benchmarks.py", "-k", "birds")
    code, words = outcome_of(house, *where)
    assert code == 1
    assert "dataset 'birds' is not tested: add a miniature of it to" in words
    untested = next(one for one in blocks("python") if one.file == conftest)
    (house / conftest).write_text((house / conftest).read_text() + untested.text)
    code, words = outcome_of(house, *where)
    assert code == 0, words
    assert passed(words) >= 3


def test_a_kernel_is_a_folder_and_one_line(house: Path) -> None:
    follow("write-a-kernel.md", house)
    code, words = outcome_of(house, "tests/kernels/test_unit.py")
    assert code == 0, words
    assert passed(words) == 11
