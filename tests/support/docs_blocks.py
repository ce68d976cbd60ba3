"""What tests read from the docs: fenced blocks, code within sentences, commands in a shell."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"^([^\n]*?)<<-?\s*'?(\w+)'?\n(.*?)^\2$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of some language.

    ``run`` says whether it is carried out as it stands, ``file`` what file of c4c it goes into.
    """

    page: Path
    line: int
    kind: str
    run: bool
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(*kinds: str) -> list[Block]:
    """All fenced blocks of some languages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for fence in _FENCE.finditer(text):
            kind, *more = fence[1].split() or [""]
            line = text.count("\n", 0, fence.start()) + 1
            file = more[0] if more and "/" in more[0] else ""
            found.append(Block(page, line, kind, more == ["run"], fence[2], file))
    return [block for block in found if block.kind in kinds]


def inline(page: Path) -> list[str]:
    """What stands between backticks outside of fences, each on one line."""
    prose = _FENCE.sub("", page.read_text())
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


@dataclass(frozen=True)
class Command:
    """Words of one command of a shell, or the text that ``python -`` reads."""

    words: tuple[str, ...]
    stdin: str = ""


def commands(text: str) -> Iterator[Command]:
    """The commands of a block, one after the other; pipes and redirections are not followed."""
    text = re.sub(r"\\\n\s*", " ", text)
    while heredoc := _HEREDOC.search(text):
        yield from _lines(text[: heredoc.start()])
        yield Command(tuple(shlex.split(heredoc[1])), heredoc[3])
        text = text[heredoc.end() :]
    yield from _lines(text)


def _lines(text: str) -> Iterator[Command]:
    for line in text.splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if not set(word) <= set(";&|<>"):
                words.append(word)
            elif words:
                yield Command(tuple(words))
                words = []
