"""The table of backbones: what open_clip's configurations say of them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from c4c.core.errors import C4CError
from c4c.core.pickles import plain
from c4c.extract.backbone.hub import downloaded
from c4c.extract.backbone.memory import sizes
from c4c.extract.backbone.preprocessing import tag_settings
from c4c.extract.backbone.tokens import context_length

HEADER = ["name", "M parameters", "channels", "words", "input", "resize", "tags"]


def listed(pattern: str) -> list[list[str]]:
    """Rows of the table, smallest model first; those of unknown size come last.

    Args:
        pattern: part of a name, or a pattern with ``*`` that all of it matches.

    Raises:
        C4CError: no name matches.
    """
    import open_clip

    whole = pattern if any(one in pattern for one in "*?[") else f"*{pattern}*"
    names = [name for name in open_clip.list_models() if fnmatchcase(name.lower(), whole.lower())]
    if not names:
        raise C4CError(f"No backbone of open_clip matches '{plain(pattern)}'; try c4c backbones.")
    names.sort(key=lambda name: (sizes().get(name, float("inf")), name))
    return [_row(name) for name in names]


def _row(name: str) -> list[str]:
    import open_clip

    config = open_clip.get_model_config(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    resizes = dict.fromkeys(tag_settings(name, tag)["resize_mode"] for tag in tags)
    count = sizes().get(name)
    size = config["vision_cfg"].get("image_size", 224)
    return [
        name,
        f"{count / 1e6:.0f}" if count else "?",
        str(config["embed_dim"]),
        str(context_length(name)),
        str(size),
        "/".join(resizes) or "shortest",
        " ".join(tag + "*" * downloaded(name, tag) for tag in tags) or "none",
    ]
