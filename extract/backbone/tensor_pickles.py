"""The pickles that torch writes, as plain tables: no class of torch or of the file is built.

A tensor becomes a ``Slice``, which says where its numbers lie; an object of TorchScript becomes
a ``Module``, a table of its attributes. What else a pickle may name is looked up here and has
no effect, or is not found and ends the reading.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from c4c.core.errors import C4CError
from c4c.core.pickles import PlainUnpickler, plain

# The storage classes that are read, and what their numbers are.
KINDS = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
# Names that stand beside weights as values; what they mean is of no interest here.
_VALUES = re.compile(
    r"torch\.((bool|(u?int|b?float|complex)\d+\w*)|Tensor|nn\.parameter\.Parameter)"
)
_SCRIPT = "__torch__."
# What a few bytes may name again and again must be short, or a small file takes hours: torch has
# no call with more arguments, no tensor with more dimensions; no class has such a name.
_ARGUMENTS, _DIMENSIONS, _LETTERS = 16, 64, 1000
_COUNT = 1 << 48


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers of one kind in a row, as a file holds them.

    Attributes:
        kind: torch's name of the storage class, a key of ``KINDS``.
        key: what the file calls it.
        count: how many numbers.
    """

    kind: str
    key: str
    count: int

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        return self.count * KINDS[self.kind].itemsize


@dataclass(frozen=True, slots=True)
class Slice:
    """A tensor that was not read yet: a view of a storage, within its bounds.

    Attributes:
        storage: where the numbers are.
        offset: of the first one, in numbers.
        size: the tensor's shape.
        stride: steps between neighbours along each dimension, in numbers.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.size) != len(self.stride):
            raise C4CError("a tensor's shape does not fit its strides")
        if not all(map(_is_count, (self.offset, *self.size, *self.stride))):
            raise C4CError("a tensor's shape, strides or offset are no counts")
        steps = ((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        if self.offset + (sum(steps) + 1 if self.count else 0) > self.storage.count:
            raise C4CError("a tensor reaches beyond the end of its storage")
        if self.count > self.storage.count:
            raise C4CError("a tensor claims more numbers than its storage holds")

    @property
    def count(self) -> int:
        """How many numbers the tensor has."""
        return math.prod(self.size)

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes when it is written out."""
        return self.count * KINDS[self.storage.kind].itemsize


@dataclass(slots=True, eq=False)
class Module:
    """An object of TorchScript: the name of its class, and its attributes."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _COUNT


class _Name(str):
    """A name that a pickle asked for and that is known here; it is never imported."""

    __slots__ = ()


class TensorUnpickler(PlainUnpickler):
    """Reads what ``torch.save`` and TorchScript's ``save`` write.

    Attributes:
        storages: those that the pickle refers to, by key.
    """

    dispatch = type(PlainUnpickler.dispatch)(PlainUnpickler.dispatch)

    def __init__(self, data: io.BytesIO) -> None:
        super().__init__(data, encoding="latin-1")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The name itself, when it is one that has a meaning here.

        Raises:
            C4CError: it has none.
        """
        full = f"{module[:_LETTERS]}.{name[:_LETTERS]}"
        known = full in _CALLS or full in KINDS or full.startswith(_SCRIPT)
        if known or _VALUES.fullmatch(full):
            return _Name(full)
        raise C4CError(
            f"it asks for {plain(full)}, and c4c loads tensors only; nothing in it was run"
        )

    def odd_key(self, key: Any) -> None:
        """Leave the entry out: weights have texts for names, and nothing else counts."""

    def persistent_load(self, pid: Any) -> Any:
        """The storage that a tensor lies in, for torch keeps numbers outside of the pickle.

        Raises:
            C4CError: it is described in another way than torch does.
        """
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage":
            raise C4CError("it refers to something else than a storage")
        kind, key, _, count, *view = pid[1:]
        # A name first: to look up anything else may take for ever (see ``is_key``).
        if not isinstance(kind, _Name) or kind not in KINDS or view not in ([], [None]):
            raise C4CError("it refers to a storage of a kind that c4c does not read")
        if type(key) is not str or not _is_count(count):
            raise C4CError("it describes a storage wrongly")
        found = Storage(str(kind), key, count)
        if self.storages.setdefault(key, found) != found:
            raise C4CError("it describes one storage in two ways")
        return found

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], arguments)

    def _new(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not (isinstance(kind, _Name) and kind.startswith(_SCRIPT)) or arguments != ():
            raise C4CError("it builds an object, and weights need none")
        self.stack.append(Module(kind))

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Module):
            if type(state) is not dict:
                raise C4CError(
                    f"its {plain(target.kind)} restores itself by code of its own (__setstate__), "
                    "which c4c never runs; save its state_dict() instead"
                )
            target.attributes = state
        elif type(target) is not dict and not isinstance(target, Slice):
            raise C4CError("it sets attributes of something that has none")
        # What else has attributes (a state dict's versions, a parameter's hooks) does not count.

    dispatch[pickle.BINPERSID[0]] = pickle._Unpickler.dispatch[pickle.BINPERSID[0]]
    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.NEWOBJ[0]] = _new
    dispatch[pickle.BUILD[0]] = _build


def _call(name: Any, arguments: Any) -> Any:
    """What a known name gives for arguments.

    Raises:
        C4CError: it is none that is called, or its arguments are not torch's.
    """
    if not (isinstance(name, _Name) and name in _CALLS):
        raise C4CError("it calls something that is no part of torch's tensors")
    if type(arguments) is not tuple or len(arguments) > _ARGUMENTS:
        raise C4CError(f"it calls {name} in a way that torch does not")
    return _CALLS[name](*arguments)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Slice:
    if not isinstance(storage, Storage):
        raise C4CError("a tensor has no storage")
    if max(len(size), len(stride)) > _DIMENSIONS:
        raise C4CError("a tensor has more dimensions than torch knows")
    return Slice(storage, offset, tuple(size), tuple(stride))


def _first(value: Any, *_: Any) -> Any:
    return value


def _table(items: Any = None) -> dict[Any, Any]:
    if items is not None and type(items) is not dict:
        raise C4CError("a table is written as Python 2 did; save it again with a newer torch")
    return {} if items is None else items


def _subclass(name: Any, _: Any, arguments: Any, __: Any) -> Any:
    """A tensor with attributes beside it, which are left out."""
    return _call(name, arguments)


def _nothing(*_: Any) -> None:
    return None


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "collections.OrderedDict": _table,
    "collections.Counter": _table,
    "torch.Size": _first,
    "torch.device": _nothing,
    "_codecs.encode": _nothing,
    **{f"{module}.set": _first for module in ("__builtin__", "builtins")},
    **{f"{module}.{name}": _nothing for module in ("__builtin__", "builtins")
       for name in ("bytearray", "complex")},
    **{f"torch.jit._pickle.{name}": _first for name in (
        "build_intlist", "build_doublelist", "build_boollist", "build_tensorlist",
        "restore_type_tag")},
}  # fmt: skip
