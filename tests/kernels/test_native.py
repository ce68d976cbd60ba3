"""The compiled part: where it is missing, broken or of another version, torch does its work."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from c4c.kernels import GalleryIndex, masked_mean_pool, native, topk_similarity


@pytest.fixture
def forgetful():
    for one in (native.library, native.levels):
        one.cache_clear()
    yield
    for one in (native.library, native.levels):
        one.cache_clear()


def built() -> bool:
    return native.library() is not None


@pytest.mark.parametrize("state", ["missing", "cut short", "another library"])
def test_without_it_the_answers_are_the_same(state, tmp_path, monkeypatch, forgetful):
    rows = torch.randn(3000, 24, generator=torch.Generator().manual_seed(0)).round()
    expected = (
        topk_similarity(rows[:9], GalleryIndex(rows), 4),
        masked_mean_pool(rows, offsets=torch.tensor([0, 1000, 3000])),
    )
    path = tmp_path / "_native.so"
    if state == "cut short":
        path.write_bytes(b"\x7fELF")
    elif state == "another library":
        path.write_bytes(Path(torch._C.__file__).read_bytes())
    spec = None if state == "missing" else ModuleSpec("_native", None, origin=str(path))
    monkeypatch.setattr(native, "find_spec", lambda name: spec)
    native.library.cache_clear()
    native.levels.cache_clear()
    assert native.library() is None and native.levels() == (0, 0)
    index = GalleryIndex(rows)
    assert index.codes is None
    for found, was in zip(topk_similarity(rows[:9], index, 4), expected[0], strict=True):
        assert found.equal(was)
    pooled = masked_mean_pool(rows, offsets=torch.tensor([0, 1000, 3000]))
    torch.testing.assert_close(pooled, expected[1], atol=1e-6, rtol=0)


@pytest.mark.skipif(not built(), reason="no compiled part here: c4c doctor says why")
def test_one_of_another_version_is_left_alone(monkeypatch, forgetful):
    monkeypatch.setattr(native, "VERSION", native.VERSION + 1)
    native.library.cache_clear()
    assert native.library() is None


@pytest.mark.skipif(not built(), reason="no compiled part here: c4c doctor says why")
def test_tensors_that_c_would_misread_never_reach_it():
    for wrong in (torch.ones(3).double(), torch.ones(3, 3).T[:2], torch.ones(3, device="meta")):
        with pytest.raises(AssertionError):
            native.pointers(scale=wrong)
