"""Reads a pickle of plain values, and nothing else: no class, no function, no call.

For one file only, MSVD's ``raw-captions.pkl``. Whatever a pickle can do beyond lists, dicts,
texts and numbers begins with naming a class or function, and here no name is found. Nor can a
small file stand for endless work: it may name a value again and again, but all of them together
are not much larger than MSVD's.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from c4c.errors import C4CError
from c4c.extract.datasets.tables import read_bytes

_LARGEST = 64 << 20  # bytes of a file; MSVD's has about five million
_MOST = 1 << 24  # letters and values in all, counted wherever they are named; MSVD has five million


class _Plain(pickle._Unpickler):
    """The unpickler written in Python: its memo is a dict, so a few bytes cannot claim memory."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse: plain values need no name."""
        raise C4CError(
            f"it asks for {module}.{name}, and captions need no code. Do not trust this file; "
            "nothing in it was run"
        )

    def get_extension(self, code: int) -> Any:
        """Refuse: a numbered name is a name."""
        raise C4CError(f"it asks for extension {code}, and captions need no code")

    def _items(self, items: Sequence[Any], target: dict[str, Any]) -> None:
        """Take keys and values by turns; other keys than texts can be made to collide."""
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise C4CError(f"a key is {type(key).__name__}, expected a text")
            target[key] = value

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._items([key, value], self.stack[-1])

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._items(items, self.stack[-1])

    def _make_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._items(items, self.stack[-1])

    def _refuse_set(self) -> None:
        raise C4CError("it holds a set, and captions need none")

    dispatch: dict[int, Callable[[Any], None]] = {
        **pickle._Unpickler.dispatch,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _make_dict,
        pickle.EMPTY_SET[0]: _refuse_set,
        pickle.FROZENSET[0]: _refuse_set,
    }


def read_pickle(path: Path) -> Any:
    """The plain value in a pickle of protocol 0 to 5; texts of Python 2 are read as UTF-8.

    Raises:
        C4CError: missing, damaged, with anything but plain values in it, or with values that
            are named over and over.
    """
    data = read_bytes(path)
    try:
        if len(data) > _LARGEST:
            raise C4CError(f"it has {len(data)} bytes, expected {_LARGEST} at most")
        found = _Plain(io.BytesIO(data), encoding="utf-8").load()
        _require_sane_size(found)
        return found
    except C4CError as error:
        raise C4CError(f"{path} is refused: {error}.") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise C4CError(f"{path} is not a pickle of plain values: {reason}.") from None


def _require_sane_size(root: Any) -> None:
    """Refuse a value that is larger than ``_MOST`` when all that is named in it is counted again.

    Each list is looked at once, after what is in it, and no call goes deeper for a deeper one.
    """
    sizes: dict[int, int] = {}  # by identity
    begun: set[int] = set()
    todo = [(root, False)]
    while todo:
        value, ready = todo.pop()
        inside = _inside(value)
        if ready:
            sizes[id(value)] = size = 1 + sum(sizes[id(one)] for one in inside)
            if size > _MOST:
                raise C4CError("the values that it names over and over would make endless work")
        elif id(value) in sizes:
            continue
        elif not inside:
            sizes[id(value)] = 1 + (len(value) if isinstance(value, str | bytes) else 0)
        elif id(value) in begun:
            raise C4CError("a list in it holds itself")
        else:
            begun.add(id(value))
            todo.append((value, True))
            todo += [(one, False) for one in inside]


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple) else ()
