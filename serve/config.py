"""What ``c4c serve`` is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from c4c.core.settings import check, same, setting
from c4c.retrieval.opening import SearchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """Settings of ``c4c serve``.

    Attributes:
        caches: what is served; none is the only one below ``c4c-cache/``.
        checkpoint: trained head; ``None`` is mean pooling.
        pretrained: weights for the texts.
        host: address to bind.
        port: 0 takes a free one.
        names: host names by which other machines call.
        token_file: holds the token that requests must bring; made where it does not exist.
        device: where head and text tower run.
    """

    caches: tuple[Path, ...] = ()
    checkpoint: Path | None = same(SearchConfig, "checkpoint")
    pretrained: str | None = same(SearchConfig, "pretrained")
    host: str = setting(
        "Machine", "Address; beyond this machine it needs --token-file.", "127.0.0.1"
    )
    port: int = setting("Machine", "Port to serve on; 0 takes a free one.", 8400, within=(0, 65535))
    names: tuple[str, ...] = setting(
        "Machine", "Host name by which other machines call; repeatable.", (), option="name"
    )
    token_file: Path | None = setting(
        "Machine", "File of the secret that requests must bring; made if missing.", None
    )
    device: str | None = same(SearchConfig, "device")

    def __post_init__(self) -> None:
        check(self)
