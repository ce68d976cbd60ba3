"""Gradients of a contrastive batch, with the graph of a few pairs in memory at a time.

Gradient caching (Gao et al. 2021): the features of all chunks without a graph; the loss of the
whole batch and its gradient with respect to the features; then each chunk again, with a graph,
started from that gradient. The result is the gradient of the whole batch, to rounding. A head
that looks at every pair of text and clip (tightTransf) is cut into blocks of the similarity
matrix in the same way. The random state of each piece is kept and replayed, so that dropout
draws the same mask twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.core.records import FeatureBatch
from c4c.heads.base import Head
from c4c.training.parallel import World
from c4c.training.recipes import RECIPES, Recipe
from c4c.training.task import Inputs, Task


def accumulate_gradients(
    task: Task, inputs: Inputs, micro: int, world: World, weight: float = 1.0
) -> Tensor:
    """Add the gradient of one batch to every parameter's ``grad``.

    Args:
        task: what is trained.
        inputs: this process's part of the batch, B clips.
        micro: pairs whose graph is held at once; 0 is all.
        world: the processes that share the batch.
        weight: of this batch, for accumulation.

    Returns:
        The batch's loss (over all processes), detached.
    """
    chunks = _spans(len(inputs.lengths), micro)
    keep = len(chunks) == 1 or not task.encoder_trains
    states = []
    encoded = []
    for start, stop in chunks:
        states.append(random_state(task.device))
        with torch.set_grad_enabled(keep and task.encoder_trains):
            encoded.append(_encode(task, inputs, start, stop))
    frames, texts = (torch.cat(part) for part in zip(*encoded, strict=True))
    leaves = [part.detach().requires_grad_(task.encoder_trains) for part in (frames, texts)]
    loss = _head_gradients(task, leaves[0], inputs.lengths, leaves[1], micro, world, weight)
    if task.encoder_trains:
        frame_gradient, text_gradient = (_gradient(leaf) for leaf in leaves)
        for number, (start, stop) in enumerate(chunks):
            if keep:
                outputs = encoded[number]
            else:
                with _replay(states[number], task.device):
                    outputs = _encode(task, inputs, start, stop)
            torch.autograd.backward(
                outputs, (frame_gradient[start:stop], text_gradient[start:stop])
            )
    return loss


def gradient_shares(head: Head, recipe: Recipe, size: int) -> Callable[[nn.Parameter], float]:
    """What the sum of a parameter's gradients over processes is multiplied by.

    After ``accumulate_gradients`` each of W processes holds its own clips' part of the encoder's
    gradient, and the whole of the head's: so the first is summed and the second averaged, and
    the result is the gradient of one process with the whole batch.

    The authors' code averages all of them, and its gathering gives back a slice: what is
    computed before (encoder, LSTM, transformer) ends with 1/W of the true gradient, the logit
    scale with all of it. A tight head gathers nothing: the mean over processes.

    Args:
        head: what stands above the encoder.
        recipe: whose sharing it is.
        size: W.
    """
    own = {id(parameter) for parameter in head.parameters()}

    def share(parameter: nn.Parameter) -> float:
        if recipe.apart and head.loose and parameter is not head.logit_scale:
            return 1 / size**2 if id(parameter) in own else 1 / size
        return 1 / size if recipe.apart or id(parameter) in own else 1.0

    return share


def _encode(task: Task, inputs: Inputs, start: int, stop: int) -> tuple[Tensor, Tensor]:
    with task.autocast():
        frames, texts = task.encode(inputs, start, stop)
    return frames.float(), texts.float()


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _head_gradients(
    task: Task,
    frames: Tensor,
    lengths: Tensor,
    texts: Tensor,
    micro: int,
    world: World,
    weight: float,
) -> Tensor:
    """Gradients of head, frames and texts: over the batch of all processes, or of this one."""
    apart = not task.head.loose and RECIPES[task.config.recipe].apart
    gathered = (World() if apart else world).gather_batch(frames, lengths, texts)
    batch = FeatureBatch(gathered.frames, gathered.lengths.to(frames.device))
    if micro and not task.head.loose:
        loss = _blockwise(task, batch, gathered.texts, micro, weight)
    else:
        loss = task.loss(batch, gathered.texts)
        (loss * weight).backward()  # type: ignore[no-untyped-call]
    gathered.give_back(frames, texts)
    return world.mean(loss) if apart else loss.detach()


def _blockwise(task: Task, batch: FeatureBatch, texts: Tensor, micro: int, weight: float) -> Tensor:
    """The same for a head without vectors: block by block of the similarity matrix."""
    blocks = [
        (rows, columns)
        for rows in _spans(len(texts), micro)
        for columns in _spans(len(batch), micro)
    ]
    similarity = batch.features.new_zeros(len(texts), len(batch))
    states = []
    for (top, bottom), (left, right) in blocks:
        states.append(random_state(task.device))
        with torch.no_grad():
            part = task.similarity(_columns(batch, left, right), texts[top:bottom])
        similarity[top:bottom, left:right] = part
    similarity.requires_grad_()
    loss = task.objective(similarity)
    (loss * weight).backward()  # type: ignore[no-untyped-call]
    for ((top, bottom), (left, right)), state in zip(blocks, states, strict=True):
        with _replay(state, task.device):
            part = task.similarity(_columns(batch, left, right), texts[top:bottom])
        part.backward(_gradient(similarity)[top:bottom, left:right].to(part.dtype))  # type: ignore[no-untyped-call]
    return loss


def _columns(batch: FeatureBatch, start: int, stop: int) -> FeatureBatch:
    return FeatureBatch(batch.features[start:stop], batch.lengths[start:stop])


def _spans(count: int, size: int) -> list[tuple[int, int]]:
    size = size or count
    return [(start, min(start + size, count)) for start in range(0, count, max(1, size))]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Where the generators that dropout draws from stand."""
    state = {"rng": torch.get_rng_state()}
    if device.type == "cuda":
        state["rng_cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random(state: dict[str, Tensor], device: torch.device) -> None:
    """Put the generators back to ``state``; a run resumed on another device has no state there.

    Raises:
        C4CError: it is not a state of theirs.
    """
    try:
        torch.set_rng_state(state["rng"])
        if device.type == "cuda" and "rng_cuda" in state:
            torch.cuda.set_rng_state(state["rng_cuda"], device)
    except (KeyError, RuntimeError, TypeError):
        raise C4CError(
            "The checkpoint holds no state of the random generators that fits; go back to another "
            "checkpoint, or --overwrite to begin anew."
        ) from None


@contextmanager
def _replay(state: dict[str, Tensor], device: torch.device) -> Iterator[None]:
    """Draw again what was drawn after ``state``; what was drawn since stays drawn."""
    now = random_state(device)
    restore_random(state, device)
    try:
        yield
    finally:
        restore_random(now, device)
