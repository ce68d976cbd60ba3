"""What fits into memory is known before a backbone is built, in a container or a job too."""

from pathlib import Path

import pytest

from c4c.core.errors import C4CError
from c4c.extract.backbone import memory
from c4c.extract.backbone.memory import available, check_memory

GB = 10**9


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def left(root: Path, own: str) -> float:
    (root / "own").write_text(own)
    return available(root, root / "own")


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path) -> None:
    free = available(tmp_path / "none", tmp_path / "none/own")
    assert 0 < free < 1e15
    write(tmp_path / "job", memory__max="max", memory__current=5 * GB, memory__stat="file 1")
    assert left(tmp_path, "0::/job\n") == pytest.approx(free, rel=0.2)


def test_what_a_job_may_take_counts_and_pages_of_files_it_read_are_free(tmp_path: Path) -> None:
    pages = "anon 600000\ninactive_file 200000\nactive_file 100000\nshmem 7"
    write(tmp_path / "job", memory__max=1_000_000, memory__current=900_000, memory__stat=pages)
    assert left(tmp_path, "0::/job\n") == 400_000
    assert left(tmp_path, "0::/job/step\n") == 400_000  # the group above holds


def test_what_a_group_of_version_1_may_take_counts_likewise(tmp_path: Path) -> None:
    pages = "inactive_file 1\ntotal_inactive_file 200000\ntotal_active_file 50000"
    files = {"memory__limit_in_bytes": 1_000_000, "memory__usage_in_bytes": 900_000}
    write(tmp_path / "memory/box", **files, memory__stat=pages)
    assert left(tmp_path, "4:memory:/box\n1:cpu:/elsewhere\n") == 350_000


def test_weights_that_are_read_take_twice_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 3.6 * GB)
    check_memory("ViT-L-14", loaded=True)  # 427 million of 4 bytes each, twice
    check_memory("ViT-L-16-SigLIP2-256", loaded=False)
    with pytest.raises(C4CError, match=r"882 million .* takes 7.1 GB to build; 3.6 GB"):
        check_memory("ViT-L-16-SigLIP2-256", loaded=True)
    check_memory("nobody knows it", loaded=True)
