"""Tuning CLIP's projections on features cached before them: no frame is decoded for it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.extract.config import ExtractConfig
from c4c.extract.pipeline import run_extract
from c4c.heads import HEADS, build_head
from c4c.heads.checkpoint import load_checkpoint
from c4c.retrieval.searcher import Searcher
from c4c.retrieval.session import RetrieveConfig, run_evaluate
from c4c.training.cached import train_head
from c4c.training.config import TrainHeadConfig


@pytest.fixture(scope="module")
def hidden_cache(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("hidden") / "shapes"
    run_extract(
        ExtractConfig(
            dataset="shapes",
            root=shapes_root,
            cache=cache,
            backbone="tiny",
            workers=1,
            features="hidden",
        )
    )
    return cache


def config(cache: Path, out: Path, **changes: object) -> TrainHeadConfig:
    settings = {"head": "meanP", "epochs": 2, "batch": 16, "tune": "projections", **changes}
    return TrainHeadConfig(cache=cache, out=out, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_with_projections_on_hidden_features_is_the_head_on_final_ones(
    name: str, shapes_cache: Path, hidden_cache: Path
) -> None:
    final, hidden = Cache.open(shapes_cache), Cache.open(hidden_cache)
    init = final.head_init()
    torch.manual_seed(0)
    plain = build_head(name, final.dim, init, layers=1).eval()
    torch.manual_seed(0)
    own = build_head(name, hidden.dim, init, layers=1, hidden=True).eval()
    places = np.arange(6)
    with torch.inference_mode():
        one = plain(final.clips("test").batch(places), final.captions("test").batch(places))
        two = own(hidden.clips("test").batch(places), hidden.captions("test").batch(places))
    torch.testing.assert_close(two, one, rtol=2e-2, atol=2e-2)  # both caches hold float16


def test_without_training_a_hidden_cache_evaluates_as_the_final_one(
    shapes_cache: Path, hidden_cache: Path
) -> None:
    one = run_evaluate(RetrieveConfig(cache=shapes_cache, device="cpu")).metrics
    two = run_evaluate(RetrieveConfig(cache=hidden_cache, device="cpu")).metrics
    assert abs(one["t2v"].mean_rank - two["t2v"].mean_rank) < 0.5


@pytest.mark.parametrize("name", ["meanP", "seqTransf", "tightTransf"])
def test_tuned_projections_are_kept_evaluated_and_searched_with(
    name: str, hidden_cache: Path, tmp_path: Path
) -> None:
    result = train_head(config(hidden_cache, tmp_path / "run", head=name, layers=1, lr=3e-3))
    held = load_checkpoint(result.checkpoint).head
    init = Cache.open(hidden_cache).head_init()
    assert held.projections is not None
    assert not torch.equal(held.projections.visual, init["visual_proj"])
    assert not torch.equal(held.projections.text, init["text_proj"])
    asked = RetrieveConfig(cache=hidden_cache, checkpoint=result.checkpoint, device="cpu")
    assert run_evaluate(asked).source["checkpoint"] == str(result.checkpoint)
    assert len(Searcher.of(asked)("a red ball moves left", k=3)) == 3


def test_tuning_the_projections_learns_on_its_own(hidden_cache: Path, tmp_path: Path) -> None:
    before = run_evaluate(RetrieveConfig(cache=hidden_cache, split="train", device="cpu")).metrics
    run = tmp_path / "run"
    result = train_head(config(hidden_cache, run, epochs=15, lr=1e-2, eval_split="none"))
    asked = RetrieveConfig(
        cache=hidden_cache, checkpoint=result.checkpoint, split="train", device="cpu"
    )
    after = run_evaluate(asked).metrics
    assert after["t2v"].mean_rank < before["t2v"].mean_rank


def test_projections_left_alone_stay_those_of_clip(hidden_cache: Path, tmp_path: Path) -> None:
    result = train_head(config(hidden_cache, tmp_path / "run", head="seqLSTM", tune="head"))
    held = load_checkpoint(result.checkpoint).head
    assert held.projections is not None
    assert torch.equal(held.projections.visual, Cache.open(hidden_cache).head_init()["visual_proj"])


def test_heads_and_caches_of_the_two_kinds_do_not_mix(
    shapes_cache: Path, hidden_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(C4CError, match="--features hidden"):
        train_head(config(shapes_cache, tmp_path / "a"))
    own = train_head(config(hidden_cache, tmp_path / "b")).checkpoint
    with pytest.raises(C4CError, match="--features hidden"):
        run_evaluate(RetrieveConfig(cache=shapes_cache, checkpoint=own, device="cpu"))
    with pytest.raises(C4CError, match="projections of its own"):
        train_head(config(shapes_cache, tmp_path / "d", tune="head", init_head=own))
    other = train_head(config(shapes_cache, tmp_path / "c", tune="head")).checkpoint
    with pytest.raises(C4CError, match="--features final"):
        run_evaluate(RetrieveConfig(cache=hidden_cache, checkpoint=other, device="cpu"))
