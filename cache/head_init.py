"""``head-init.safetensors``: the tensors of the backbone that heads start from.

They follow from the backbone, so a file that is damaged is written again by the next extraction.
Beside the tensors stand two checksums: of the backbone that they are of, and of themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError, Damaged
from c4c.core.files import parse_json, read_bytes, write_atomic
from c4c.core.inside import is_there
from c4c.core.progress import say
from c4c.core.schema import parse

if TYPE_CHECKING:
    from torch import Tensor

NAME = "head-init.safetensors"
# One key with both: safetensors writes several in no order, and the same run has the same bytes.
_KEY = "sha256"
_HEADER = 2 << 20  # bytes; hundreds of tensors need 50 kB


def save_head_init(folder: Path, init: dict[str, Tensor], backbone: str) -> None:
    """Write the file, unless it is there as it should be.

    Args:
        folder: the cache.
        init: what ``Backbone.head_init`` gives.
        backbone: sha256 of the backbone.

    Raises:
        C4CError: it cannot be written.
    """
    from safetensors.torch import save_file

    needed = True
    with contextlib.suppress(C4CError):
        if read_head_init(folder, backbone)[1]:
            return
        needed = False  # it only lacks checksums, and its folder may be read-only
    words = {_KEY: f"{backbone} {_sha256(init)}"}
    tensors = {name: value.contiguous() for name, value in init.items()}
    try:
        write_atomic(folder / NAME, lambda target: save_file(tensors, target, words))
    except C4CError:
        if needed:
            raise


def read_head_init(folder: Path, backbone: str) -> tuple[dict[str, Tensor], bool]:
    """The tensors, and whether checksums say that they are as they were written.

    Files from before there were checksums have none.

    Args:
        folder: the cache.
        backbone: sha256 of the backbone that made the cache.

    Raises:
        Damaged: the file differs from what was written, or is another backbone's.
        C4CError: it does not exist, or cannot be read.
    """
    path = folder / NAME
    remedy = f"run c4c cache verify --repair {folder}, then the same c4c extract as before"
    if not is_there(path, folder):
        raise C4CError(f"{path} does not exist; run the same c4c extract as before to write it.")
    data = read_bytes(path)
    try:
        tensors, words = _parsed(data)
    except Exception as error:  # safetensors, torch and Python have errors of their own for it
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise Damaged(f"{path} is damaged, or not safetensors ({reason}); {remedy}.") from None
    if _KEY not in words:
        return tensors, False
    theirs, _, own = words[_KEY].partition(" ")
    if own != _sha256(tensors):
        raise Damaged(f"{path}: its tensors differ from their checksum; {remedy}.")
    if theirs != backbone:
        raise Damaged(
            f"{path} is of another backbone ({theirs[:12]}, the cache is of {backbone[:12]}); "
            f"{remedy}."
        )
    return tensors, True


def _parsed(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a file of safetensors, and the words beside them."""
    from safetensors.torch import load

    size = int.from_bytes(data[:8], "little")
    if size > _HEADER:
        raise C4CError("its header is far too long")
    header = parse(dict[str, object], parse_json(data[8 : 8 + size].decode(), "header"), "header")
    return load(data), parse(dict[str, str], header.get("__metadata__", {}), "header")


def _sha256(tensors: dict[str, Tensor]) -> str:
    from c4c.core.tensors import state_sha256

    return state_sha256(tensors)


def head_init_damage(
    folder: Path, backbone: str, set_aside: Callable[[Path], Path] | None = None
) -> Iterator[C4CError]:
    """What is wrong with the file; one without checksums is told on stderr.

    Args:
        folder: the cache.
        backbone: sha256 of the backbone that made it.
        set_aside: renames a file that is proven to be damaged.
    """
    try:
        if not read_head_init(folder, backbone)[1]:
            say(f"{folder / NAME}: from before it had a checksum; extraction adds one")
    except C4CError as error:
        yield error
        if set_aside and isinstance(error, Damaged):
            yield Damaged(f"{folder / NAME}: set aside as {set_aside(folder / NAME).name}")
