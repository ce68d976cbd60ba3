"""Tokenizers: CLIP's own comes with open_clip, others from the hub or a local folder.

They are opened when the first text comes: frames need none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from c4c.core.errors import C4CError
from c4c.core.files import read_bytes, read_json
from c4c.core.pickles import plain
from c4c.extract.backbone.hub import quiet_and_offline

CONTEXT = 77  # tokens of a text, where a model's configuration names no number
_FILE = "tokenizer.json"
# What a tokenizer's folder may hold; weights beside it are none of its business.
_NAMES = ("*.json", "*.model", "*.txt")
_PADS, _SEPARATORS = ("<pad>", "[PAD]"), ("[SEP]", "</s>")


class Tokenizer:
    """Texts to token ids, as open_clip has it for a model.

    Attributes:
        name: open_clip's name of the model.
        local: folder or file that the user passed; ``None`` is the model's own.
        sha256: of the local files; empty without.
    """

    def __init__(self, name: str, local: Path | None = None) -> None:
        self.name, self.local = name, local
        self.sha256 = _digest(local) if local else ""
        self._opened: Any = None

    def __call__(self, texts: Sequence[str], context_length: int) -> torch.Tensor:
        """Int64 [n, context_length].

        Raises:
            C4CError: the tokenizer is not installed, or not there.
        """
        if self._opened is None:
            self._opened = _open(self.name, self.local)
        found: torch.Tensor = self._opened(list(texts), context_length=context_length)
        return found

    @property
    def pad(self) -> int:
        """The id that fills up short texts; known once the tokenizer was used."""
        return int(getattr(getattr(self._opened, "tokenizer", None), "pad_token_id", None) or 0)


def text_config(name: str) -> dict[str, Any]:
    """The text tower's configuration of a model that open_clip knows."""
    import open_clip

    found: dict[str, Any] = (open_clip.get_model_config(name) or {}).get("text_cfg", {})
    return found


def context_length(name: str) -> int:
    """Tokens of a text of a model that open_clip knows."""
    return int(text_config(name).get("context_length", CONTEXT))


def require_transformers(name: str) -> None:
    """Refuse in one line what needs transformers where it is not installed.

    Raises:
        C4CError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("transformers") is None:
        raise C4CError(f"{name} needs the package transformers: pip install 'c4c[hf]'.")


def _open(name: str, local: Path | None) -> Any:
    import open_clip

    config = text_config(name)
    if local is None and not config.get("hf_tokenizer_name"):
        return open_clip.get_tokenizer(name)
    require_transformers(f"The tokenizer of {name}")
    source = str(config.get("hf_tokenizer_name") or local)
    try:
        with quiet_and_offline(), _as_folder(local) as folder:
            return open_clip.tokenizer.HFTokenizer(
                str(folder or source),
                context_length=context_length(name),
                tokenizer_mode=config.get("tokenizer_mode"),
                **{**(config.get("tokenizer_kwargs") or {}), "trust_remote_code": False},
            )
    except C4CError:
        raise
    except Exception as error:  # transformers has errors of every kind for it
        if local:
            reason = plain(error) or type(error).__name__
            raise C4CError(f"{local} is no tokenizer that transformers reads: {reason}.") from None
        raise C4CError(
            f"Could not load the tokenizer '{source}' of {name} (not on this machine, and not "
            "downloaded); pass --tokenizer FOLDER with a copy of its files."
        ) from None


@contextlib.contextmanager
def _as_folder(local: Path | None) -> Iterator[Path | None]:
    """The folder that transformers reads: a lone ``tokenizer.json`` gets one of its own."""
    if local is None or local.is_dir():
        yield local
        return
    special = {str(one.get("content")) for one in read_json(local).get("added_tokens", [])}
    about = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role, names in (("pad_token", _PADS), ("sep_token", _SEPARATORS)):
        known = [name for name in names if name in special]
        about |= {role: known[0]} if known else {}
    if "pad_token" not in about:
        raise C4CError(f"{local} names no token to pad with; pass the whole folder.")
    with tempfile.TemporaryDirectory(prefix="c4c-tokenizer-") as folder:
        shutil.copy(local, Path(folder) / _FILE)
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(about))
        yield Path(folder)


def _digest(local: Path) -> str:
    """Sha256 of the files of a tokenizer, names included.

    Raises:
        C4CError: there are none.
    """
    if local.is_dir():
        files = sorted(path for pattern in _NAMES for path in local.glob(pattern))
    else:
        files = [local] if os.path.isfile(local) else []
    if not files:
        raise C4CError(f"--tokenizer {local}: no tokenizer there; pass its folder or {_FILE}.")
    digest = hashlib.sha256()
    for path in files:
        name = path.name if local.is_dir() else _FILE
        digest.update(f"{name} ".encode() + hashlib.sha256(read_bytes(path)).digest())
    return digest.hexdigest()
