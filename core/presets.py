"""Named settings by benchmark, from ``presets.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from c4c.core.errors import C4CError


@cache
def load_presets() -> dict[str, Any]:
    """The content of ``presets.toml``."""
    return tomllib.loads((files("c4c.core") / "presets.toml").read_text(encoding="utf-8"))


def preset_datasets() -> dict[str, list[str]]:
    """Which datasets each preset is for."""
    return {name: [one for one in found if one != "any"] for name, found in load_presets().items()}


def preset_list() -> str:
    """The presets and their datasets, as help and errors show them."""
    return "; ".join(f"{name} for {', '.join(own)}" for name, own in preset_datasets().items())


def preset(name: str, dataset: str, command: str, head: str | None = None) -> dict[str, Any]:
    """Settings of a command on a dataset.

    Args:
        name: of the preset.
        dataset: name in the registry of datasets.
        command: ``extract``, ``train-head``, ``train-e2e`` or ``retrieve``.
        head: whose own settings are laid over the others.

    Raises:
        C4CError: no such preset, or it says nothing of this dataset.
    """
    presets = load_presets()
    if name not in presets:
        raise C4CError(f"Unknown preset '{name}'. Known: {', '.join(presets)}.")
    if dataset not in preset_datasets()[name]:
        raise C4CError(f"Preset '{name}' is not for '{dataset}'. There are: {preset_list()}.")
    tables = [presets[name][table].get(command, {}) for table in ("any", dataset)]
    found: dict[str, Any] = {}
    for table in tables + [table.get(head, {}) for table in tables]:
        found |= {key: value for key, value in table.items() if not isinstance(value, dict)}
    return found
