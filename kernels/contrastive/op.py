"""The symmetric contrastive loss of CLIP4Clip, without the matrix of similarities.

Equations 9–11 of the paper: cross-entropy from each text to all videos of the batch and
from each video to all texts, averaged. The [B, B] logits are made a strip at a time, once
for the two log-sum-exps and once more for the gradient, so a batch costs memory in
proportion to B, not to B squared.
"""

from typing import Any

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import check_matrix, check_same, compute_dtype, use_triton

OP = "contrastive_loss"
# Logits of one strip (rows times B) on the CPU path: 4 MB in float32.
STRIP = 1 << 20


def contrastive_loss(text: Tensor, video: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Mean of the text-to-video and video-to-text cross-entropies; row i belongs to row i.

    Args:
        text: unit vectors [B, D]; float16, bfloat16, float32 or float64.
        video: unit vectors [B, D], of the same dtype.
        logit_scale: the multiplier of the cosines (``exp`` of CLIP's parameter).

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        C4CError: the shapes or dtypes differ, or the batch is empty.
    """
    check_matrix(OP, "text", text)
    check_matrix(OP, "video", video)
    check_same(OP, "shapes of text and video", list(text.shape), list(video.shape), "pair them up")
    check_same(OP, "dtypes of text and video", text.dtype, video.dtype, "convert one of them")
    if len(text) == 0:
        raise C4CError(f"{OP}: the batch is empty; pass at least one pair.")
    wide = compute_dtype(text.dtype)
    scale = torch.as_tensor(logit_scale, device=text.device).to(wide).reshape(())
    loss, _, _ = torch.ops.c4c.contrastive_loss(text, video, scale)
    return loss  # type: ignore[no-any-return]


@torch.library.custom_op("c4c::contrastive_loss", mutates_args=())
def _loss(text: Tensor, video: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and the log-sum-exps [B] of the rows and of the columns of the logits."""
    if use_triton(text, video):
        from c4c.kernels.contrastive.triton import log_sum_exps

        rows, columns = log_sum_exps(text, video, scale)
    else:
        rows, columns = _log_sum_exps(text, video, scale)
    matched = (text.to(scale.dtype) * video.to(scale.dtype)).sum(1) * scale
    loss = ((rows - matched).mean() + (columns - matched).mean()) / 2
    return loss, rows, columns


@_loss.register_fake
def _(text: Tensor, video: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch = text.shape[0]
    return scale.new_empty(()), scale.new_empty(batch), scale.new_empty(batch)


@torch.library.custom_op("c4c::contrastive_gradient", mutates_args=())
def _gradient(
    text: Tensor, video: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of text [B, D], video [B, D] and scale (before the upstream factor)."""
    if use_triton(text, video):
        from c4c.kernels.contrastive.triton import gradients

        return gradients(text, video, scale, rows, columns)
    return _gradients(text, video, scale, rows, columns)


@_gradient.register_fake
def _(
    text: Tensor, video: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    shape = text.shape
    return scale.new_empty(shape), scale.new_empty(shape), scale.new_empty(())


def _setup_context(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    ctx.save_for_backward(*inputs, *output[1:])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    text, video, scale, rows, columns = ctx.saved_tensors
    parts = torch.ops.c4c.contrastive_gradient(text, video, scale, rows, columns)
    to_text, to_video, to_scale = (part * grad for part in parts)
    return to_text.to(text.dtype), to_video.to(video.dtype), to_scale


_loss.register_autograd(_backward, setup_context=_setup_context)


def _log_sum_exps(text: Tensor, video: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    every = video.to(scale.dtype)
    columns = scale.new_full((len(video),), -torch.inf)
    rows = []
    for strip in torch.split(text, _strip_rows(len(video))):
        logits = (strip.to(scale.dtype) * scale) @ every.T
        rows.append(logits.logsumexp(1))
        columns = torch.logaddexp(columns, logits.logsumexp(0))
    return torch.cat(rows), columns


def _gradients(
    text: Tensor, video: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    batch = len(text)
    every = video.to(scale.dtype)
    to_text = scale.new_empty(text.shape)
    to_video = scale.new_zeros(video.shape)
    to_scale = scale.new_zeros(())
    step = _strip_rows(batch)
    for low in range(0, batch, step):
        strip = text[low : low + step].to(scale.dtype)
        cosines = strip @ every.T
        logits = cosines * scale
        # Softmax over videos plus softmax over texts, minus twice the identity.
        pull = (logits - rows[low : low + step, None]).exp_()
        pull += (logits - columns).exp_()
        pull.diagonal(low).sub_(2.0)
        pull /= 2 * batch
        to_scale += (pull * cosines).sum()
        to_text[low : low + step] = pull @ every * scale
        to_video += pull.T @ strip * scale
    return to_text, to_video, to_scale


def _strip_rows(batch: int) -> int:
    return max(1, STRIP // batch)
