"""Search: the clips that the definition puts first, and what is asked of a cache for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Dataset
from c4c.core.sampling import View
from c4c.heads import build_head
from c4c.heads.base import Head
from c4c.heads.checkpoint import save_checkpoint
from c4c.retrieval import rerank as rerank_module
from c4c.retrieval.evaluate import evaluate
from c4c.retrieval.gallery_build import window_batch
from c4c.retrieval.opening import RetrieveConfig, SearchConfig, open_head
from c4c.retrieval.queries import read_queries
from c4c.retrieval.ranking import Rerank
from c4c.retrieval.search import Hit, search
from c4c.retrieval.searcher import Searcher
from c4c.retrieval.session import run_evaluate

DIM = 64
MakeSplit = Callable[..., Any]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that float16 holds as they are."""
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return drawn.astype(np.float16).astype(np.float32)


def seeded(name: str) -> Head:
    torch.manual_seed(0)
    return build_head(name, DIM, layers=1).eval()


def told(hits: list[Hit]) -> list[tuple[str, int, str]]:
    return [(hit.query, hit.rank, hit.clip) for hit in hits]


@torch.inference_mode()
def logits(head: Head, clips: Any, text: np.ndarray, view: tuple[Any, ...] = ()) -> np.ndarray:
    found = head(clips.batch(range(len(clips)), View(*view)), torch.from_numpy(text))
    return np.asarray(found.numpy().astype(np.float64))


@pytest.mark.parametrize("view", [(), (2, "tail", "reverse")])
@pytest.mark.parametrize("name", ["meanP", "seqTransf", "tightTransf"])
def test_hits_are_the_clips_that_score_highest(
    name: str, view: tuple[Any, ...], make_split: MakeSplit
) -> None:
    head, (clips, _) = seeded(name), make_split(random(12, 5, DIM))
    text = random(3, DIM, seed=1)
    hits = list(search([(["a", "b", "c"], torch.from_numpy(text))], head, clips, 4, View(*view)))
    scores = logits(head, clips, text, view)
    order = np.argsort(-scores, axis=1)[:, :4]
    assert told(hits) == [
        ("abc"[row], rank + 1, f"clip{order[row, rank]:02}")
        for row in range(3)
        for rank in range(4)
    ]
    scale = 1.0 if name == "tightTransf" else head.logit_scale.exp().item()
    expected = np.take_along_axis(scores, order, 1).ravel() / scale
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=2e-6)
    assert (hits[0].path, hits[0].start, hits[0].end) == (f"{hits[0].clip}.mp4", 0.0, None)


def test_a_tight_head_orders_the_shortlist_of_mean_pooling(make_split: MakeSplit) -> None:
    clips, _ = make_split(random(12, 5, DIM))
    text = random(2, DIM, seed=1)
    coarse, fine = (logits(seeded(name), clips, text) for name in ("meanP", "tightTransf"))
    few = np.argsort(-coarse, axis=1)[:, :4]
    head = seeded("tightTransf")
    hits = list(search([(["a", "b"], torch.from_numpy(text))], head, clips, 3, shortlist=4))
    expected = [row[np.argsort(-fine[n, row])][:3] for n, row in enumerate(few)]
    assert [hit.clip for hit in hits] == [f"clip{place:02}" for row in expected for place in row]
    # More answers than the shortlist has: as many are looked at as are wanted.
    assert (
        len(list(search([(["a"], torch.from_numpy(text[:1]))], head, clips, 6, shortlist=4))) == 6
    )
    assert len(list(search([(["a"], torch.from_numpy(text[:1]))], head, clips, 90))) == 12


def test_qb_norm_serves_live_queries_by_its_bank(make_split: MakeSplit) -> None:
    common = 2.5 * random(1, DIM, seed=9)
    features = random(12, 1, DIM)
    text = features[:, 0] + common + random(12, DIM, seed=1)
    bank = features[:, 0] + common + random(12, DIM, seed=2)
    features[0] = (common + 0.5 * features[0]).astype(np.float16)
    clips, _ = make_split(features)
    unit = [
        one / np.linalg.norm(one, axis=-1, keepdims=True) for one in (text, bank, features[:, 0])
    ]
    scores, banked = unit[0] @ unit[2].T, unit[1] @ unit[2].T
    hubs = np.isin(np.arange(12), banked.argmax(1))
    inverted = np.exp(20 * scores) / np.exp(20 * banked).sum(0)
    expected = np.where(hubs[scores.argmax(1)][:, None], inverted, scores).argmax(1)
    assert (expected != scores.argmax(1)).any()
    rerank = Rerank("qbnorm", clips, torch.from_numpy(bank))
    names, head = [str(row) for row in range(12)], seeded("meanP")
    hits = list(search([(names, torch.from_numpy(text))], head, clips, 1, rerank=rerank))
    assert [hit.clip for hit in hits] == [f"clip{place:02}" for place in expected]
    cosines = scores[np.arange(12), expected]
    assert [hit.score for hit in hits] == pytest.approx(cosines, abs=2e-6)


def test_an_empty_gallery_is_said(make_split: MakeSplit) -> None:
    clips, _ = make_split(random(2, 1, DIM), failed=("clip00", "clip01"))
    with pytest.raises(C4CError, match="gallery is empty"):
        list(search([(["a"], torch.zeros(1, DIM))], seeded("meanP"), clips))


@pytest.fixture
def cache(tmp_path: Path, write_cache: Callable[..., Path]) -> Path:
    """Splits train and test whose clips and captions go by different features."""
    for number, (split, count) in enumerate((("train", 20), ("test", 12))):
        ids = [f"{split}{place:02}" for place in range(count)]
        captions = tuple(Caption(f"c-{name}", name, f"about {name}") for name in ids)
        clips = tuple(Clip(name, f"{name}.mp4") for name in ids)
        frames = dict(zip(ids, random(count, 6, DIM, seed=number), strict=True))
        words = random(count, DIM, seed=number + 7)
        held = {one.id: row for one, row in zip(captions, words, strict=True)}
        dataset = Dataset("folder", split, clips, captions)
        write_cache(tmp_path / "cache", dataset, frames, held)
    return tmp_path / "cache"


def test_a_checkpoint_is_asked_as_it_was_trained(cache: Path, tmp_path: Path) -> None:
    trained = {"max_frames": 3, "sampling": "tail", "order": "random", "eval_order": "reverse"}
    save_checkpoint(tmp_path / "run", seeded("seqTransf"), {"config": trained, "chosen_on": "val"})
    config = RetrieveConfig(cache=cache, checkpoint=tmp_path / "run", device="cpu")
    assert open_head(config)[2] == View(3, "tail", "reverse")
    wider = RetrieveConfig(cache=cache, checkpoint=tmp_path / "run", device="cpu", max_frames=5)
    assert open_head(wider)[2] == View(5, "tail", "reverse")
    found = run_evaluate(config)
    assert found.head == "seqTransf"
    assert found.gallery[0] == "test00"  # the test split, where there is one
    told = ("split", "chosen_on", "dataset", "weights", "model")
    assert [found.source[key] for key in told] == ["test", "val", "folder", "s", "m"]
    assert len(run_evaluate(RetrieveConfig(cache=cache, split="train", device="cpu")).gallery) == 20


@pytest.mark.parametrize(("trained_at", "own", "seen"), [
    (1.0, 2.0, 1.0), (0.5, 2.0, 0.5), (2.0, 2.0, None), (2.0, 1.0, None), (None, 2.0, None),
])  # fmt: skip
def test_a_head_sees_as_many_frames_a_second_as_it_was_trained_on(
    tmp_path: Path,
    write_cache: Callable[..., Path],
    trained_at: float | None,
    own: float,
    seen: float | None,
) -> None:
    clips = (Clip("a", "a.mp4"), Clip("b", "b.mp4"))
    frames = dict(zip("ab", random(2, 8, DIM), strict=True))
    write_cache(tmp_path / "cache", Dataset("folder", "all", clips), frames, {}, fps=own)
    made = {"fingerprint": {"sampling": f"fps={trained_at:g} max=None"}} if trained_at else {}
    head = seeded("seqTransf").eval()
    save_checkpoint(tmp_path / "run", head, {"config": {}, **made})
    config = SearchConfig(cache=tmp_path / "cache", checkpoint=tmp_path / "run", device="cpu")
    view = open_head(config)[2]
    assert view.fps == seen
    step = int(own / seen) if seen else 1
    held, span = Cache.open(tmp_path / "cache").clips("all"), np.array([[2, 8]], np.int32)
    assert torch.equal(held.batch([0], view).features, held.batch([0]).features[:, ::step])
    window = window_batch(held.read(0), span, view, torch.device("cpu"))
    assert torch.equal(window.features, held.batch([0]).features[:, 2:8:step])


def test_the_bank_of_qb_norm_is_another_split(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"cache": cache, "device": "cpu", "rerank": "qbnorm"}
    found = run_evaluate(RetrieveConfig(**asked))
    monkeypatch.setattr(rerank_module, "BANK", 5)
    fewer = run_evaluate(RetrieveConfig(**asked))
    plain = run_evaluate(RetrieveConfig(cache=cache, device="cpu"))
    ranks = [one.ranks["t2v"].ahead.tolist() for one in (found, fewer, plain)]
    assert ranks[0] != ranks[1]
    assert ranks[0] != ranks[2]
    held = Cache.open(cache)
    bank = Rerank("qbnorm", held.clips("train"), held.captions("train").batch(range(20)))
    expected = evaluate(
        seeded("meanP"), held.clips("test"), held.captions("test"), rerank=bank
    )  # both directions
    for way in ("t2v", "v2t"):
        assert found.ranks[way].ahead.tolist() == expected.ranks[way].ahead.tolist()
    for bank in ("test", "nothing"):
        with pytest.raises(C4CError, match=r"--bank SPLIT, of train \(now"):
            run_evaluate(RetrieveConfig(**asked, bank=bank))
    with pytest.raises(C4CError, match="--bank SPLIT, of test"):
        run_evaluate(RetrieveConfig(**asked, split="train"))


def test_queries_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q"
    path.write_bytes('\ufeffa dog \n\n{"query": " a cat "}\n'.encode())
    assert list(read_queries(str(path))) == ["a dog", "a cat"]
    for line in ('{"query": 3}', '{"query": " "}', "{}", "{"):
        path.write_text(f"a dog\n{line}\n")
        with pytest.raises(C4CError, match="q line 2"):
            list(read_queries(str(path)))
    path.write_bytes(b"\xff")
    with pytest.raises(C4CError, match="not UTF-8"):
        list(read_queries(str(path)))


def test_a_search_with_all_of_a_split_is_refused(cache: Path) -> None:
    with pytest.raises(C4CError, match="is for --evaluate"):
        Searcher(cache, rerank="dual-softmax")
