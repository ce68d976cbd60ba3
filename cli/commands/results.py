"""What both trainings print at their end."""

from __future__ import annotations

from typing import Any


def show_result(result: Any) -> None:
    """Figures of the best checkpoint as one JSON line on stdout, its place on stderr."""
    import json
    import os

    from c4c.core.progress import say
    from c4c.core.terminal import tell

    if os.environ.get("RANK", "0") != "0":  # under torchrun one process speaks
        return
    line = {"checkpoint": str(result.checkpoint), "steps": result.steps, **result.metrics}
    if result.notes:
        line["notes"] = result.notes
    tell(json.dumps(line))
    for note in result.notes:
        say(f"note: {note}")
    say(f"best checkpoint: {result.checkpoint}")
