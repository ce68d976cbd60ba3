"""The small backbone that ships with c4c: its shape, its tokenizer, where its weights lie.

A CLIP of 1.8 million parameters for 64 x 64 frames, trained by c4c on the synthetic
benchmark (docs/explanation/tiny.md has the command). It makes demo and tests mean something
without a download; it knows nothing of real videos.
"""
# ruff: noqa: SIM905 - sixty words are easier to read as a text

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

NAME = "tiny"
WEIGHTS = Path(__file__).with_name("tiny.safetensors")

CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 128, "layers": 4},
    "text_cfg": {"context_length": 32, "vocab_size": 512, "width": 128, "heads": 2, "layers": 4},
}

# Order matters: a word's place is its token id, and the shipped weights were trained on it.
_WORDS = (
    "a an the and then before after while it is there in on of to with from "
    "red green blue yellow magenta cyan white orange purple pink gray black "
    "circle square triangle star cross diamond ring bar "
    "moves goes slides left right up down grows shrinks becomes bigger smaller "
    "appears disappears video clip shape first second next followed by"
).split()

_PAD, _START, _BYTES = 0, 1, 2
_FIRST_WORD = _BYTES + 256
_END = 511


class TinyTokenizer:
    """Words of the synthetic benchmark are one token each; any other word is spelled in bytes."""

    def __init__(self) -> None:
        self._ids = {word: _FIRST_WORD + place for place, word in enumerate(_WORDS)}

    def __call__(self, texts: Sequence[str], context_length: int = 32) -> torch.Tensor:
        """Tokens of ``texts``, cut to ``context_length`` with the end token kept.

        Returns:
            int64 [n, context_length]: start, words, end, zeros. The end token has the
            highest id, so ``argmax`` finds it, as in CLIP.
        """
        rows = torch.full((len(texts), context_length), _PAD, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [_START, *self._encode(text)][: context_length - 1] + [_END]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in re.findall(r"\w+|[^\w\s]", text.lower()):
            known = self._ids.get(word)
            ids.extend([known] if known else (_BYTES + byte for byte in word.encode()))
        return ids
