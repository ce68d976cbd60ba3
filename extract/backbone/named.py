"""open_clip's modules by name, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from c4c.core.errors import C4CError
from c4c.core.files import read_json
from c4c.core.pickles import plain
from c4c.core.schema import parse
from c4c.extract.backbone.hub import no_retries_offline
from c4c.extract.backbone.tokens import require_transformers, text_config


def create(name: str, local: Path | None = None, **more: Any) -> nn.Module:
    """open_clip's module of that name with random weights.

    Args:
        name: a name that open_clip knows.
        local: folder with the configuration of a text tower that is transformers' own; the
            numbers in it are never read.
        more: for ``open_clip.create_model``.

    Raises:
        C4CError: this installation cannot build it, and why.
    """
    import open_clip

    text = text_config(name)
    if "hf_model_name" in text:
        require_transformers(f"The text tower of {name}")
        if local is not None and local.is_dir():
            _check_tower(local)
            text |= {"hf_model_name": str(local), "hf_model_pretrained": False}
            more["text_cfg"] = text
    try:
        with no_retries_offline():
            return open_clip.create_model(  # type: ignore[no-any-return]
                name, **{"pretrained": None, "pretrained_text": False, **more}
            )
    except OSError:
        raise C4CError(
            f"The text tower of {name} is '{text.get('hf_model_name')}' of the hub, whose "
            "configuration is not on this machine, and could not be downloaded; pass --tokenizer "
            "FOLDER with a copy of its files, config.json among them."
        ) from None
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        ImportError,
        AssertionError,
    ) as error:
        reason = plain(error) or type(error).__name__
        raise C4CError(
            f"{name} cannot be built with the open_clip, timm and transformers that are "
            f"installed: {reason}."
        ) from None


def _check_tower(folder: Path) -> None:
    """Only kinds of towers that open_clip knows: others could bring code of their own."""
    from open_clip.hf_configs import arch_dict

    about = parse(dict[str, object], read_json(folder / "config.json"), str(folder / "config.json"))
    if about.get("model_type") not in arch_dict or "auto_map" in about:
        raise C4CError(
            f"{folder / 'config.json'} is of no text tower that open_clip knows: "
            f"{', '.join(arch_dict)}."
        )
