"""Pickles from elsewhere: plain values come out, and nothing is imported, called or copied.

A pickle is a program for a small machine, and most of what it can do is harm. Here the machine
knows the instructions for numbers, texts, lists, tuples and tables only. Each of them takes time
and memory in proportion to its own bytes, so a reading ends as soon as its bytes are used up.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from c4c.core.errors import C4CError

# By name, as pickle has them. Left out: what calls or builds (REDUCE, NEWOBJ, BUILD, OBJ …);
# sets, whose elements are hashed; BYTEARRAY8, which takes the memory that it claims.
_PLAIN = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG
    LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES EMPTY_LIST EMPTY_TUPLE EMPTY_DICT LIST
    TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL INST EXT1 EXT2 EXT4
"""
# Hashing a nested tuple takes twice as long with each level that names the one below twice, and
# integers beyond this size can be chosen to collide.
_KEYS = (str, bytes, bool, float, type(None))
_INTEGER = 1 << 60


class _Instructions(dict[int, Callable[[Any], None]]):
    """What an instruction does, by its number."""

    def __missing__(self, number: int) -> Callable[[Any], None]:
        raise pickle.UnpicklingError(f"instruction {number:#04x} has no place in it")


class PlainUnpickler(pickle._Unpickler):
    """The unpickler written in Python: its memo is a dict, so a few bytes cannot claim memory.

    Args:
        data: the pickle; what follows its end is left alone.
        encoding: of texts that Python 2 wrote.
    """

    dispatch = _Instructions(
        (code, pickle._Unpickler.dispatch[code])
        for code in (getattr(pickle, name)[0] for name in _PLAIN.split())
    )
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, data: io.BytesIO, encoding: str = "utf-8") -> None:
        super().__init__(data, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        """Refuse: plain values need no name.

        Raises:
            C4CError: always.
        """
        raise C4CError(f"it asks for {plain(f'{module}.{name}')}")

    def get_extension(self, code: int) -> Any:
        """Refuse: a numbered name is a name.

        Raises:
            C4CError: always.
        """
        raise C4CError(f"it asks for extension {code}")

    def _set(self, table: Any, items: list[Any]) -> None:
        if type(table) is not dict:
            raise pickle.UnpicklingError("a key and a value outside of a table")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if is_key(key):
                table[key] = value
            else:
                self.odd_key(key)

    def odd_key(self, key: Any) -> None:
        """Refuse a key that may take long to hash.

        Raises:
            C4CError: always.
        """
        raise C4CError(f"a {type(key).__name__} is the key of a table")

    def _set_item(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._set(self.stack[-1], items)

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set(self.stack[-1], items)

    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict


def is_key(value: Any) -> bool:
    """Whether it is a plain value that is hashed at once."""
    return type(value) in _KEYS or (type(value) is int and -_INTEGER < value < _INTEGER)


def check_repeats(value: Any, most: int) -> None:
    """Refuse lists that name one another so often that reading them all would not end.

    Args:
        value: lists, tuples and tables of anything.
        most: elements (16 characters of text count as one) with every repeat written out.

    Raises:
        C4CError: there are more, or a list holds itself.
    """
    parts, todo = 0, [value]
    while todo:
        one = todo.pop()
        inner = list(one.values()) if isinstance(one, dict) else one
        parts += len(inner)
        for element in inner:
            if isinstance(element, (list, tuple, dict)):
                todo.append(element)
            elif isinstance(element, (str, bytes)):
                parts += len(element) // 16
        if parts > most:
            raise C4CError("it repeats its own parts far more often than it is long")


def plain(text: object, most: int = 200) -> str:
    """Text out of a foreign file for a message: one short line of printable ASCII."""
    return str(text).encode("unicode_escape").decode()[:most]
