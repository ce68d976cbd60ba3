"""The ``--preset`` option: named settings for what the user did not give."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from c4c.cli.options import option
from c4c.core.presets import preset, preset_list


def preset_option(command: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--preset`` to a command: it fills what neither the user nor c4c.toml gave."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def filled(preset_name: str | None, **options: Any) -> Any:
            if preset_name:
                dataset = options.get("dataset") or _dataset_of(options.get("cache"))
                found = preset(preset_name, dataset, command, options.get("head"))
                context = click.get_current_context()
                for key, value in found.items():
                    if context.get_parameter_source(key) is ParameterSource.DEFAULT:
                        options[key] = value
            return function(**options)

        help_ = f"Settings by name: {preset_list()}."
        with_preset: Callable[..., Any] = option("Data", "--preset", "preset_name", help=help_)(
            filled
        )
        return with_preset

    return decorate


def _dataset_of(cache_folder: Path | None) -> str:
    from c4c.cache.open import Cache, find_cache

    return Cache.open(find_cache(cache_folder)).dataset
