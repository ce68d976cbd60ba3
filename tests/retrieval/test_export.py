"""Runs, qrels and matrices: other programs read them and come to the same figures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, FeatureBatch
from c4c.heads import build_head
from c4c.retrieval import scores as module
from c4c.retrieval.evaluate import Evaluation, evaluate
from c4c.retrieval.export import (
    strictly_falling,
    tied_note,
    trec_id,
    write_similarity,
    write_trec,
)
from c4c.retrieval.ranking import Rerank

DIM = 16


class Clips:
    """A gallery in memory, with the face of ``ClipFeatures``."""

    def __init__(self, features: torch.Tensor, ids: list[str]) -> None:
        self.features = features
        self.clips = [Clip(name, f"/{place}.mp4") for place, name in enumerate(ids)]
        self.ids, self.twins, self.missing, self.failed = ids, {}, (), ()
        self.expected = len(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, places, *_args: object) -> FeatureBatch:
        found = self.features[torch.as_tensor(np.asarray(places))]
        return FeatureBatch(found, torch.full((len(found),), found.shape[1]))


class Captions:
    """Captions in memory, with the face of ``CaptionFeatures``."""

    def __init__(self, features: torch.Tensor, clip_ids: list[str]) -> None:
        self.features, self.clip_ids = features, clip_ids
        self.captions = [
            Caption(f"{name}#{place}", name, "text") for place, name in enumerate(clip_ids)
        ]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def batch(self, rows) -> torch.Tensor:
        return self.features[torch.as_tensor(np.asarray(rows))]


def evaluation(
    several: int = 1, head: str = "meanP", clips: int = 60, ties: bool = False, **changes: object
) -> Evaluation:
    generator = torch.Generator().manual_seed(3)
    ids = [f"clip {number} of {clips} é%" for number in range(clips)]
    video = torch.randn(clips, 2, DIM, generator=generator)
    if ties:
        video[1::2] = video[::2]
    text = video.mean(1).repeat_interleave(several, 0)
    text = text + 1.5 * torch.randn(text.shape, generator=generator)
    owners = [name for name in ids for _ in range(several)]
    built = build_head(head, DIM, layers=1, max_frames=2)
    return evaluate(built, Clips(video, ids), Captions(text, owners), **changes)


def by_ir_measures(run: Path, qrels: Path) -> dict[str, float]:
    measures = pytest.importorskip("ir_measures")
    wanted = {
        name: measures.parse_measure(m)
        for name, m in (
            ("r1", "Success@1"),
            ("r5", "Success@5"),
            ("r10", "Success@10"),
            ("mrr", "RR"),
        )
    }
    found = measures.calc_aggregate(
        wanted.values(), measures.read_trec_qrels(str(qrels)), measures.read_trec_run(str(run))
    )
    return {name: found[measure] for name, measure in wanted.items()}


def by_ranx(run: Path, qrels: Path) -> dict[str, float]:
    ranx = pytest.importorskip("ranx")
    names = {"recall@1": "r1", "recall@5": "r5", "recall@10": "r10", "mrr": "mrr"}
    found = ranx.evaluate(
        ranx.Qrels.from_file(str(qrels), kind="trec"),
        ranx.Run.from_file(str(run), kind="trec"),
        list(names),
    )
    return {names[name]: value for name, value in found.items()}


@pytest.mark.parametrize(
    "judge",
    [by_ir_measures, pytest.param(by_ranx, marks=pytest.mark.slow)],  # it compiles itself
)
@pytest.mark.parametrize(
    "changes",
    [{}, {"several": 3}, {"head": "tightTransf"}, {"rerank": Rerank("dual-softmax")}],
    ids=["plain", "several captions", "tight", "re-ranked"],
)
def test_other_programs_agree_with_the_table(changes, judge, tmp_path: Path) -> None:
    found = evaluation(**changes)
    assert tied_note(found) == ""
    files = write_trec(found, tmp_path / "out")
    assert [path.name for path in files] == [
        "out.t2v.run", "out.t2v.qrels", "out.v2t.run", "out.v2t.qrels",
    ]  # fmt: skip
    for way, metrics in found.metrics.items():
        told = judge(tmp_path / f"out.{way}.run", tmp_path / f"out.{way}.qrels")
        ours = {"r1": metrics.r1, "r5": metrics.r5, "r10": metrics.r10}
        assert {name: 100 * told[name] for name in ours} == pytest.approx(ours, abs=1e-4)
        assert told["mrr"] == pytest.approx(metrics.mrr, abs=1e-6)


def ranking(run: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in run.read_text().splitlines():
        query, q0, document, rank, score, _ = line.split(" ")
        found.setdefault(query, []).append(document)
        assert (q0, int(rank)) == ("Q0", len(found[query]))
        float(score)
    return found


def test_ties_stand_in_the_order_of_ids_and_that_is_said(tmp_path: Path) -> None:
    found = evaluation(ties=True)
    assert "60 of t2v" in tied_note(found)
    write_trec(found, tmp_path / "out")
    rows = ranking(tmp_path / "out.t2v.run")
    assert len(rows) == 60
    for documents in rows.values():
        for place in range(0, 60, 2):  # twins of the gallery follow each other, the lesser id first
            pair = documents[place : place + 2]
            assert pair == sorted(pair)
    told = by_ir_measures(tmp_path / "out.t2v.run", tmp_path / "out.t2v.qrels")
    naive = [documents.index(query.rpartition("#")[0]) + 1 for query, documents in rows.items()]
    assert told["mrr"] == pytest.approx(np.mean(1 / np.array(naive)), abs=1e-6)


@given(st.lists(st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 0.5, -3.0, 1e-30]), min_size=1, max_size=30))
def test_written_scores_fall_strictly_and_stay_where_they_were(values: list[float]) -> None:
    scores = np.sort(np.array(values))[::-1]
    found = strictly_falling(scores)
    assert found.dtype == np.float32
    assert (np.diff(found) < 0).all()
    assert found == pytest.approx(scores, abs=1e-5)


def test_ids_are_one_word_and_can_be_read_back() -> None:
    from urllib.parse import unquote

    for name in ("plain#0", "a b\tc", "100%", "%20", "é\u2003x", "a\u00a0b"):
        assert len(trec_id(name).split()) == 1
        assert unquote(trec_id(name)) == name
    assert trec_id("video7020#0") == "video7020#0"


def test_ids_that_splits_share_are_refused(tmp_path: Path) -> None:
    found = evaluation()
    twice = replace(found, captions=(found.captions[0], *found.captions[:-1]))
    with pytest.raises(C4CError, match="unique ids"):
        write_trec(twice, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", ["meanP", "tightTransf"])
def test_the_matrix_is_the_one_that_was_ranked(head: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    found = evaluation(2, head)
    path, ids = write_similarity(found, tmp_path / "sim.npy")
    matrix = np.load(path, mmap_mode="r")
    assert matrix.shape == (120, 60)
    assert matrix.dtype == np.float32
    told = json.loads(ids.read_text())
    assert told["clips"] == list(found.gallery)
    assert [tuple(row) for row in told["captions"]] == [row[:2] for row in found.captions]
    columns = [told["clips"].index(clip) for _, clip in told["captions"]]
    own = matrix[np.arange(120), columns][:, None]
    assert ((matrix > own).sum(1) == found.ranks["t2v"].ahead).all()


def test_reciprocal_ranks_are_expected_over_ties() -> None:
    from c4c.retrieval.metrics import retrieval_metrics

    found = retrieval_metrics(np.array([[1.0, 1.0, 0.0], [5.0, 1.0, 1.0]]), np.array([0, 2]))
    assert found["t2v"].mrr == pytest.approx(((1 + 1 / 2) / 2 + (1 / 2 + 1 / 3) / 2) / 2)
