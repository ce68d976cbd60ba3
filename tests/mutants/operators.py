"""Small mistakes that a hand makes, found in a source by its syntax tree.

In: Python source. Out: ``Mutant``s, each one edit of the text. What only speaks (docstrings,
messages, annotations, imports) is left alone.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//",
    ast.BitOr: "&", ast.BitAnd: "|", ast.Pow: "*", ast.LShift: ">>",
}  # fmt: skip
# Comparisons whose swap is the negation of the whole: negating them again adds nothing.
OPPOSITES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
# Calls that give another kind of thing than they take: without them every test fails.
PRESERVING = {"sorted", "reversed", "abs", "round", "set", "list", "tuple", "frozenset"}
CONVERTING = (set(dir(builtins)) - PRESERVING) | {
    "items", "keys", "values", "tolist", "item", "numpy", "asdict", "dim", "open", "encode",
    "decode", "read", "read_text", "read_bytes", "exists", "is_file", "splitlines", "split",
}  # fmt: skip
# Calls whose arguments are words for people.
SPEAKING = {"say", "print", "echo", "option", "argument", "command", "Progress", "C4CError"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit of one file.

    Attributes:
        file: path in the repository.
        line: number of the line where it begins.
        kind: which mistake.
        start: where the edited text begins, in bytes; ``stop`` where it ends.
        text: what stands there instead.
        before: the line as it was, for people.
        after: the line as it becomes.
    """

    file: str
    line: int
    kind: str
    start: int
    stop: int
    text: str
    before: str
    after: str

    @property
    def id(self) -> str:
        """A short name that outlives edits elsewhere in the file and moves of the file."""
        told = "\0".join((self.file.rsplit("/", 1)[-1], self.kind, self.before, self.after))
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    def apply(self, source: bytes) -> bytes:
        """The source with the mistake."""
        return source[: self.start] + self.text.encode() + source[self.stop :]


def make_mutant(file: str, source: bytes, span: tuple[int, int], text: str, kind: str) -> Mutant:
    """The mutant that puts ``text`` in the place of the bytes ``span`` of ``source``."""
    start, stop = span
    low = source.rfind(b"\n", 0, start) + 1
    high = source.find(b"\n", stop)
    high = len(source) if high < 0 else high
    before = source[low:high].decode().strip()
    after = (source[low:start] + text.encode() + source[stop:high]).decode().strip()
    return Mutant(file, source.count(b"\n", 0, start) + 1, kind, start, stop, text, before, after)


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """Every operator mutant of a file, each once; a few may not compile."""
    found: dict[str, Mutant] = {}
    for start, stop, text, kind in _Finder(source).edits():
        made = make_mutant(file, source, (start, stop), text, kind)
        if made.before != made.after:
            found.setdefault(made.id, made)
    return list(found.values())


def compiles(source: bytes) -> bool:
    """Whether a source is Python still."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "mutant", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
    return True


Edit = tuple[int, int, str, str]


class _Finder:
    """Walks a tree and knows where in the text each node stands."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.lines = [0, *(match.end() for match in re.finditer(b"\n", source))]
        self.tree = ast.parse(source)
        self.modules = {
            (alias.asname or alias.name).split(".")[0]
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }

    def edits(self) -> Iterator[Edit]:
        """Every edit, from the top down."""
        yield from self._visit(self.tree)

    def _visit(self, node: ast.AST) -> Iterator[Edit]:
        if self._speaks(node):
            return
        for kind in type(node).__mro__:
            method = getattr(self, f"_{kind.__name__}", None)
            if method is not None:
                yield from method(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._visit(child)

    def _speaks(self, node: ast.AST) -> bool:
        """Whether a node only speaks to people or to type checkers; then it is left alone."""
        if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
            return True
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        if isinstance(node, ast.If):
            return "TYPE_CHECKING" in ast.dump(node.test)
        return isinstance(node, ast.Call) and _name(node.func) in SPEAKING

    def _span(self, node: ast.AST) -> tuple[int, int]:
        first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
        start = self.lines[first - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self.lines[last - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        start, stop = self._span(node)
        return self.source[start:stop].decode()

    def _put(self, node: ast.AST, text: str, kind: str) -> Edit:
        return (*self._span(node), text, kind)

    def _between(self, left: ast.AST, right: ast.AST, old: str, new: str, kind: str) -> list[Edit]:
        """Edit the operator that stands between two nodes."""
        start, stop = self._span(left)[1], self._span(right)[0]
        found = re.search(re.escape(old).replace("\\ ", "\\s+"), self.source[start:stop].decode())
        if found is None:
            return []
        return [(start + found.start(), start + found.end(), new, kind)]

    def _Compare(self, node: ast.Compare) -> Iterator[Edit]:
        if len(node.ops) == 1 and (new := COMPARISONS.get(type(node.ops[0]))):
            old = next(word for kind, word in SYMBOLS.items() if isinstance(node.ops[0], kind))
            yield from self._between(node.left, node.comparators[0], old, new, "comparison")

    def _BinOp(self, node: ast.BinOp) -> Iterator[Edit]:
        sides = (node.left, node.right)
        plain = not any(_is_text(one) or isinstance(one, ast.List | ast.Tuple) for one in sides)
        if plain and (new := ARITHMETIC.get(type(node.op))):
            old = next(word for kind, word in SIGNS.items() if isinstance(node.op, kind))
            yield from self._between(node.left, node.right, old, new, "arithmetic")

    def _BoolOp(self, node: ast.BoolOp) -> Iterator[Edit]:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield from self._between(node.values[0], node.values[1], old, new, "boolean")

    def _UnaryOp(self, node: ast.UnaryOp) -> Iterator[Edit]:
        if isinstance(node.op, ast.Not):
            yield self._put(node, self._text(node.operand), "negation")

    def _If(self, node: ast.If) -> Iterator[Edit]:
        yield from self._negated(node.test)

    def _IfExp(self, node: ast.IfExp) -> Iterator[Edit]:
        yield from self._negated(node.test)

    def _negated(self, test: ast.expr) -> Iterator[Edit]:
        simple = isinstance(test, ast.Compare) and isinstance(test.ops[0], OPPOSITES)
        if not simple and not isinstance(test, ast.UnaryOp | ast.NamedExpr):
            yield self._put(test, f"not ({self._text(test)})", "negation")

    def _Constant(self, node: ast.Constant) -> Iterator[Edit]:
        value = node.value
        if isinstance(value, bool):
            yield self._put(node, str(not value), "constant")
        elif isinstance(value, int):
            yield self._put(node, str(value + 1), "off by one")
        elif isinstance(value, float):
            yield self._put(node, repr(value * 2 if value else 1.0), "constant")

    def _Slice(self, node: ast.Slice) -> Iterator[Edit]:
        for bound in (node.lower, node.upper):
            if bound is not None and not isinstance(bound, ast.Constant | ast.UnaryOp):
                yield self._put(bound, f"({self._text(bound)}) + 1", "off by one")

    def _Call(self, node: ast.Call) -> Iterator[Edit]:
        yield from self._swapped(node)
        for keyword in node.keywords:
            # Without a GPU nothing shows where a tensor was made.
            given = keyword.arg not in (None, "device")
            if given and len(node.args) + len(node.keywords) > 1:
                start, stop = self._span(keyword)
                comma = re.match(rb"\s*,\s*", self.source[stop:])
                yield start, stop + (comma.end() if comma else 0), "", "dropped argument"
        yield from self._unwrapped(node)

    def _swapped(self, node: ast.Call) -> Iterator[Edit]:
        """``f(a, b)`` to ``f(b, a)``, where both may be of one type."""
        first, second = [*node.args[:2], None, None][:2]
        if first is None or second is None or ast.Starred in map(type, node.args[:2]):
            return
        if _is_text(first) == _is_text(second):
            start, stop = self._span(first)[0], self._span(second)[1]
            middle = self.source[self._span(first)[1] : self._span(second)[0]].decode()
            text = f"{self._text(second)}{middle}{self._text(first)}"
            yield start, stop, text, "swapped arguments"

    def _unwrapped(self, node: ast.Call) -> Iterator[Edit]:
        """``f(x)`` to ``x``, ``x.f()`` to ``x``: a step that was forgotten."""
        name = _name(node.func)
        if node.keywords or name[:1].isupper() or name in CONVERTING:
            return
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        plain = isinstance(owner, ast.Name) and owner.id
        if owner is None or plain in self.modules:
            if len(node.args) == 1 and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
                yield self._put(node, self._text(node.args[0]), "dropped call")
        elif not node.args and plain not in ("self", "cls"):
            yield self._put(node, self._text(owner), "dropped call")

    def _Expr(self, node: ast.Expr) -> Iterator[Edit]:
        if isinstance(node.value, ast.Call):
            yield self._put(node, "pass", "deleted statement")

    def _Raise(self, node: ast.Raise) -> Iterator[Edit]:
        yield self._put(node, "pass", "deleted statement")

    def _AugAssign(self, node: ast.AugAssign) -> Iterator[Edit]:
        yield self._put(node, "pass", "deleted statement")

    def _Assign(self, node: ast.Assign) -> Iterator[Edit]:
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            yield self._put(node, "pass", "deleted statement")

    def _Continue(self, node: ast.Continue) -> Iterator[Edit]:
        yield self._put(node, "break", "jump")

    def _Break(self, node: ast.Break) -> Iterator[Edit]:
        yield self._put(node, "pass", "jump")


SYMBOLS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.BitOr: "|", ast.BitAnd: "&", ast.Pow: "**", ast.LShift: "<<",
}  # fmt: skip


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _name(function: ast.expr) -> str:
    """The last word of what is called: ``c4c.core.files.write_json`` to ``write_json``."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
