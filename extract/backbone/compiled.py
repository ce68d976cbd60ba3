"""The vision tower by torch's compiler: frozen, so never for training."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.core.home import own_folder
from c4c.core.progress import say


class CompiledTower:
    """Compiles when the first images come, so that a run with nothing to do never does.

    Args:
        name: of the backbone, for messages.
        visual: its vision tower.
    """

    backend = "compile"
    calibrated = ""
    dtype: torch.dtype | None = None  # that of the weights

    def __init__(self, name: str, visual: nn.Module) -> None:
        self._name, self._visual = name, visual
        self._compiled: Any = None

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images, as the tower itself gives them.

        Raises:
            C4CError: it cannot be compiled here.
        """
        images = images.contiguous()  # one layout, or it would be compiled for each
        known = self._compiled is not None
        features = self._compiled(images) if known else self._first(images)
        # CoCa's tower gives tokens too.
        found: Tensor = features[0] if isinstance(features, tuple) else features
        return found

    def _first(self, images: Tensor) -> Any:
        say(f"compiling {self._name}: this may take a minute")
        # What was compiled before is loaded from there as it is, code and pickles; torch's own
        # choice is a folder in /tmp that another user can have made.
        own = own_folder("XDG_CACHE_HOME", ".cache")
        if own:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(own / "compiled"))
        compiled = torch.compile(self._visual, options={"freezing": True})
        try:
            features = compiled(images)
        except torch.cuda.OutOfMemoryError:
            raise  # smaller batches may fit
        except Exception as error:  # the compiler has many types of its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise C4CError(
                f"{self._name} cannot be compiled here ({reason}); use --backend torch."
            ) from None
        self._compiled = compiled
        return features
