"""The run's log: a JSON line a step and an epoch, each step once however often it was resumed."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from c4c.core.errors import C4CError
from c4c.core.files import as_text, parse_json, read_bytes, write_atomic
from c4c.core.schema import Range, Rest, parse


@dataclass(frozen=True, slots=True)
class Line:
    """What a line of the log holds.

    Attributes:
        step: steps taken when it was written.
        epoch: whole epochs, in the lines that tell the end of one.
        figures: everything else.
    """

    step: Annotated[int, Range(0)]
    epoch: Annotated[int, Range(0)] = 0
    figures: Annotated[dict[str, Any], Rest] = field(default_factory=dict)


class Journal:
    """Appends to ``log.jsonl``.

    Args:
        path: the file; ``None`` keeps nothing, in processes that do not lead.
        after: keep only lines of steps up to this one (0 begins anew),
        epochs: and of this many whole epochs: the end of one is told after it was evaluated.
        tensorboard: also write event files beside it.
    """

    def __init__(
        self, path: Path | None, after: int = 0, epochs: int = 0, tensorboard: bool = False
    ) -> None:
        if path is not None:
            rows = read_journal(path) if after else []
            kept = [r for r in rows if r["step"] <= after and r.get("epoch", 0) <= epochs]
            write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._stream = (path or Path(os.devnull)).open("a", encoding="utf-8")
        self._board = _board(path.parent / "tensorboard", after) if path and tensorboard else None

    def write(self, line: dict[str, Any]) -> None:
        """Add one line; it has a ``step``. Figures that are not finite become null."""
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in line.items()
        }
        self._stream.write(json.dumps(finite) + "\n")
        if self._board is not None:
            for key, value in finite.items():
                if isinstance(value, int | float) and key != "step":
                    self._board.add_scalar(key, value, line["step"])

    def flush(self) -> None:
        """Make sure that what was written is in the file."""
        self._stream.flush()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()
        if self._board is not None:
            self._board.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; one that a crash cut short is left out.

    Returns:
        One dictionary a line, with the keys of ``Line``; no lines when there is no file.

    Raises:
        C4CError: a whole line is damaged.
    """
    if not path.exists():
        return []
    data = read_bytes(path)
    whole = as_text(data[: data.rfind(b"\n") + 1], str(path))
    rows = []
    for number, line in enumerate(whole.split("\n")[:-1], 1):
        where = f"{path} line {number}"
        row = parse_json(line, where)
        parse(Line, row, where, remedy="correct or delete that line")
        rows.append(row)
    return rows


def _board(folder: Path, after: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise C4CError(
            "--tensorboard needs the tensorboard package; pip install 'c4c[tensorboard]'."
        ) from None
    return SummaryWriter(str(folder), purge_step=after or None)
