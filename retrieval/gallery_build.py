"""Making a piece of a gallery: clips of a cache through a head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor

from c4c.core.records import FeatureBatch
from c4c.heads import mean_of
from c4c.kernels import topk_similarity
from c4c.retrieval.gallery_piece import Named, Piece, content_of, piece_tensors
from c4c.retrieval.moments import find_moments, pairs, sees_order
from c4c.retrieval.ranking import clip_vectors
from c4c.retrieval.windows import Windows, cut_windows, shot_changes

if TYPE_CHECKING:
    from c4c.cache.open import ClipFeatures
    from c4c.core.sampling import View
    from c4c.heads.base import Head

_AT_ONCE = 256  # windows in a batch of the head, and frames in 64 of them
# A piece is made in memory: so many clips, or fewer of more frames.
PIECE_CLIPS, PIECE_FRAMES = 4096, 1 << 18
_FEW = 16  # windows among which an unrelated sentence's best moment is


def mark_of(clips: ClipFeatures, row: int) -> bytes:
    """What a clip is made of, in 16 bytes: its span and path, and its features' checksum."""
    clip = clips.clips[row]
    made_of = [clip.id, clip.path, clip.start, clip.end, *clips.state(row)]
    return hashlib.blake2b(json.dumps(made_of).encode(), digest_size=16).digest()


def portions(clips: ClipFeatures, rows: Sequence[int]) -> Iterator[list[int]]:
    """Rows of clips, as many at a time as a piece takes."""
    portion: list[int] = []
    frames = 0
    for row in rows:
        length = int(clips.lengths[row])
        if portion and (len(portion) == PIECE_CLIPS or frames + length > PIECE_FRAMES):
            yield portion
            portion, frames = [], 0
        portion.append(row)
        frames += length
    if portion:
        yield portion


@torch.inference_mode()
def make_piece(
    head: Head,
    clips: ClipFeatures,
    rows: Sequence[int],
    view: View,
    windows: Windows,
    unrelated: Tensor | None,
    step: Callable[[int], None] = lambda count: None,
) -> bytes:
    """The bytes of a piece that holds some clips.

    Args:
        head: a loose head; for a tight one, mean pooling stands in.
        clips: where they are.
        rows: which.
        view: frames that the head sees of a clip or window.
        windows: how clips are cut.
        unrelated: unit vectors [S, D] of sentences that the gallery does not answer, or ``None``.
        step: is told how many more clips are done.
    """
    loose = head if head.loose else mean_of(head)
    device = head.logit_scale.device
    single = mean_of(head)
    names, marks, content, times, frames, spans, vectors = [], [], [], [], [], [], []
    for place, row in enumerate(rows):
        features, seconds = clips.read(row)
        clip, (_, partial) = clips.clips[row], clips.state(row)
        names.append(Named(clip.id, clip.path, clip.start, clip.end, partial))
        marks.append(mark_of(clips, row))
        content.append(content_of(features))
        times.append(np.asarray(seconds))
        alone = _frame_vectors(single, features, device)
        frames.append(alone.half())
        cut = cut_windows(times[-1], shot_changes(alone.numpy()), windows)
        spans.append(np.insert(cut, 0, place, axis=1))
        vectors.append(_window_vectors(loose, (features, times[-1]), cut, view, device))
        step(1)
    own = _Rows(clips, rows)
    whole = clip_vectors(loose, own, view).cpu()  # type: ignore[arg-type]
    tensors = piece_tensors(
        names, whole, torch.cat(vectors), np.concatenate(spans), torch.cat(frames), times, marks,
        content,
    )  # fmt: skip
    if unrelated is not None:
        tensors["unrelated"] = _best_of_unrelated(unrelated, Piece(tensors, "the piece"), head)
    packed: bytes = save(tensors)
    return packed


class _Rows:
    """Some of a cache's clips, as ``clip_vectors`` reads them."""

    def __init__(self, clips: ClipFeatures, rows: Sequence[int]) -> None:
        self._clips, self._rows = clips, np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: npt.NDArray[np.int64], view: View) -> FeatureBatch:
        """Frame features of the clips at some places."""
        return self._clips.batch(self._rows[indices], view)


def _frame_vectors(single: Head, features: npt.NDArray[np.float16], device: torch.device) -> Tensor:
    """A unit vector float32 [F, D] of each frame alone, in the space where texts are compared."""
    parts = []
    for low in range(0, len(features), 64 * _AT_ONCE):
        some = torch.from_numpy(features[low : low + 64 * _AT_ONCE].astype(np.float32))
        ones = torch.ones(len(some), dtype=torch.int64, device=device)
        parts.append(single.encode_clips(FeatureBatch(some[:, None].to(device), ones)).cpu())
    return torch.cat(parts)


def window_batch(
    clip: tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]],
    spans: npt.NDArray[np.int32],
    view: View,
    device: torch.device,
) -> FeatureBatch:
    """What a head sees of some windows of a clip.

    Args:
        clip: features [F, D] and times [F] of its frames, as ``ClipFeatures.read`` gives them.
        spans: [n, 2] first frames and those after the last.
        view: which frames of a window are seen, and in which order.
        device: where to.
    """
    rows = [seen_of(clip, (first, last), view) for first, last in spans.tolist()]
    return padded(rows, device)


def seen_of(
    clip: tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]],
    span: tuple[int, int],
    view: View,
) -> npt.NDArray[np.float16]:
    """The features [n, D] that a head sees of one window of a clip; see ``window_batch``."""
    (features, times), (first, last) = clip, span
    ordinary = view.order == "ordinary"
    generator = None if ordinary else np.random.default_rng([view.seed, first])
    return view.seen(features[first:last], times[first:last], generator)


def padded(rows: Sequence[npt.NDArray[np.float16]], device: torch.device) -> FeatureBatch:
    """Features of several windows, [n, D] each, as a batch."""
    lengths = [len(row) for row in rows]
    packed = np.zeros((len(rows), max(lengths), rows[0].shape[1]), np.float32)
    for place, row in zip(packed, rows, strict=True):
        place[: len(row)] = row
    return FeatureBatch(torch.from_numpy(packed).to(device), torch.tensor(lengths, device=device))


def _window_vectors(
    head: Head,
    clip: tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]],
    spans: npt.NDArray[np.int32],
    view: View,
    device: torch.device,
) -> Tensor:
    """A unit vector a window, float32 [n, D]."""
    head.eval()
    parts = [
        head.encode_clips(window_batch(clip, spans[low : low + _AT_ONCE], view, device))
        for low in range(0, len(spans), _AT_ONCE)
    ]
    return torch.cat(parts).float().cpu()


def _best_of_unrelated(unrelated: Tensor, piece: Piece, head: Head) -> Tensor:
    """The best score of each unrelated sentence, float32 [2, S]: of clips, and of moments."""
    unrelated = unrelated.cpu().float()
    of_clips = topk_similarity(unrelated, piece.clips, 1)[0][:, 0]
    few = min(_FEW, len(piece.windows))
    scores, rows = topk_similarity(unrelated, piece.searchable, few)
    of_moments = [
        find_moments([piece], vector, pairs(own, torch.zeros_like(places), places),
                     sees_order(head), 1)[0].score
        for vector, own, places in zip(unrelated, scores, rows, strict=True)
    ]  # fmt: skip
    return torch.stack((of_clips, torch.tensor(of_moments)))
