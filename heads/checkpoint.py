"""Checkpoints: a folder of safetensors and one JSON file, whole or not there.

``checkpoint.json`` says what it is and has the checksums of the others: ``head.safetensors``
holds the head, ``backbone.safetensors`` CLIP when it was trained or imported (``--pretrained
FOLDER`` reads it), ``state.safetensors`` what a resumed run needs. No pickle is written or read.
"""

from __future__ import annotations

import glob
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.core.files import file_sha256, fsync_folder, json_bytes, read_json
from c4c.core.parts import INFO, REMEDY, check_part
from c4c.core.schema import parse, sealed
from c4c.core.tensors import read_safetensors
from c4c.heads import HEADS
from c4c.heads.base import Head
from c4c.heads.description import Description
from c4c.heads.projections import Projections

SCHEMA = 1
HEAD, BACKBONE, STATE = (
    "head.safetensors",
    "backbone.safetensors",
    "state.safetensors",
)
# A file's name, its tensors, the words beside them.
_Part = tuple[str, Mapping[str, Tensor], dict[str, str]]
_OWN_KEYS = ("schema", "head", "shape", "files", "sha256")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        head: the head, in float32 on the CPU, in evaluation mode.
        meta: what was saved with it (config, fingerprint, metrics, sampling, …).
        path: its folder.
        files: sha256 of its other files by name; a file without one is not checked.
    """

    head: Head
    meta: dict[str, Any]
    path: Path
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_backbone(self) -> bool:
        """Whether it can be a backbone (``--pretrained`` takes the folder)."""
        return (self.path / BACKBONE).is_file()

    @property
    def backbone_state(self) -> dict[str, Tensor] | None:
        """CLIP's parameters by name, in the precision they were saved in; read when asked for."""
        return _read_part(self.path, BACKBONE, self.files) if self.has_backbone else None

    @property
    def state(self) -> dict[str, Tensor] | None:
        """What a resumed run needs; read when asked for."""
        there = (self.path / STATE).is_file()
        return _read_part(self.path, STATE, self.files) if there else None


def save_checkpoint(
    folder: Path,
    head: Head,
    meta: Mapping[str, Any],
    backbone_state: Mapping[str, Tensor] | None = None,
    backbone_info: Mapping[str, str] | None = None,
    state: Mapping[str, Tensor] | None = None,
    head_state: Mapping[str, Tensor] | None = None,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a checkpoint, replacing the one that stood there.

    Args:
        folder: where; the parts are written beside it and moved there when all are whole.
        head: the head, on any device.
        meta: anything that JSON holds; read back as ``Checkpoint.meta``.
        backbone_state: CLIP's parameters, when they belong to the checkpoint.
        backbone_info: ``model`` and ``quick_gelu`` ("true", "false") of that CLIP.
        state: further tensors that a resumed run needs.
        head_state: the head's parameters when they are to be stored in another precision.
        beside: content of further files of the folder, by name.

    Returns:
        The folder.

    Raises:
        C4CError: the folder cannot be written, or holds something else than a checkpoint.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / INFO).is_file() and any(_entries(folder)):
        raise C4CError(f"{folder} is there and is no checkpoint; name another folder.")
    clash = [key for key in _OWN_KEYS if key in meta]
    if clash:
        raise ValueError(f"meta must not hold {clash}: checkpoint.json has its own")
    parts: list[_Part] = [(HEAD, head.state_dict() if head_state is None else head_state, {})]
    if backbone_state is not None:
        parts.append((BACKBONE, backbone_state, dict(backbone_info or {})))
    if state is not None:
        parts.append((STATE, state, {}))
    info = {"schema": SCHEMA, "head": head.name, "shape": head.config(), **meta}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-tmp-"))
        try:
            for name, content in (beside or {}).items():
                (temporary / name).write_bytes(content)
            _write_parts(temporary, parts, info)
            _move(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise C4CError(f"Cannot write checkpoint {folder}: {error.strerror or error}.") from None
    return folder


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        C4CError: it is not there, not whole, of a newer c4c, or does not hold what it says.
    """
    folder = _require(Path(path))
    info = read_json(folder / INFO)
    held = parse(Description, info, str(folder / INFO), SCHEMA, REMEDY)
    state = _read_part(folder, HEAD, held.files)
    try:
        head = make_head(held.head, asdict(held.shape), state)
    except C4CError as error:
        raise C4CError(f"{folder} does not hold what it says. {error}") from None
    meta = {key: value for key, value in info.items() if key not in _OWN_KEYS}
    return Checkpoint(head, meta, folder, held.files)


def _read_part(folder: Path, name: str, files: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors of one file of a checkpoint, once its bytes are known to be those written."""
    check_part(folder, name, files)
    return read_tensors(folder / name)[0]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a safetensors file, and the words stored beside them.

    Raises:
        C4CError: it is not there, cut short, or not safetensors.
    """
    if not path.is_file():
        raise C4CError(f"{path} is not there; is the checkpoint whole?")
    try:
        return read_safetensors(path)
    except C4CError as error:
        raise C4CError(
            f"{path} is damaged ({error}); copy it again or go back to another."
        ) from None


def make_head(name: str, shape: Mapping[str, Any], state: Mapping[str, Tensor]) -> Head:
    """A head of that shape holding ``state`` in float32.

    Raises:
        C4CError: parameters are missing, too many, or of another shape.
    """
    with torch.device("meta"):
        head: Head = HEADS[name](**{key: shape[key] for key in ("dim", "positions", "layers")})
        if shape.get("vision_width"):
            widths = shape["vision_width"], shape["text_width"]
            head.projections = Projections(*widths, dim=head.dim)
    own = head.state_dict()
    for key in sorted(own.keys() | state.keys()):
        if key not in state:
            raise C4CError(f"{name}: parameter '{key}' is missing.")
        if key not in own:
            raise C4CError(f"{name}: parameter '{key}' is not one of its own.")
        if own[key].shape != state[key].shape or not state[key].is_floating_point():
            raise C4CError(
                f"{name}: parameter '{key}' is {state[key].dtype} {list(state[key].shape)}, "
                f"expected floats {list(own[key].shape)}."
            )
    head.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    head.origin = "a checkpoint"
    return head.eval()


def _write_parts(folder: Path, parts: list[_Part], info: Any) -> None:
    from safetensors.torch import save_file

    files = {}
    for name, tensors, words in parts:
        whole = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        save_file(whole, folder / name, {"format": "pt", **words})
        files[name] = file_sha256(folder / name)
    (folder / INFO).write_bytes(json_bytes(sealed(_finite({**info, "files": files}))))
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~umask)
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
    fsync_folder(folder)


def _finite(value: Any) -> Any:
    """JSON has no NaN: a figure that is none becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else value


def _aside(folder: Path) -> Path:
    """Where the former checkpoint stands for the moment between two renames."""
    return folder.with_name(f".{folder.name}-former")


def _move(temporary: Path, folder: Path) -> None:
    """Put a whole folder in the place of another; the former one is found in between."""
    former = _aside(folder)
    if folder.exists():
        shutil.rmtree(former, ignore_errors=True)
        os.rename(folder, former)
    os.rename(temporary, folder)
    fsync_folder(folder.parent)
    shutil.rmtree(former, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed saves left beside the checkpoint at ``folder``, where no save goes on."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}-tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    if (folder / INFO).is_file():  # else the former one is all there is
        shutil.rmtree(_aside(folder), ignore_errors=True)


def standing(path: Path) -> Path | None:
    """The checkpoint at ``path``, or the former one if a save stopped between its two renames."""
    if (path / INFO).is_file():
        return path
    former = _aside(path) if path.name else path
    return former if not path.exists() and (former / INFO).is_file() else None


def _require(path: Path) -> Path:
    found = standing(path)
    if found is not None:
        return found
    what = "has no checkpoint.json" if path.is_dir() else "is not a checkpoint folder"
    raise C4CError(
        f"{path} {what}; name a folder such as c4c-runs/<run>/best "
        "(c4c import-checkpoint makes one from a file)."
    )


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else [folder]
