"""Files that torch wrote, read as data: no code in them runs and no class of theirs is built.

Three containers of the same pickles: the zip of ``torch.save``, the zip of TorchScript (OpenAI's
files), and the one stream that torch wrote before. What a file claims is compared with what it
holds before any memory is taken for it.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.core.pickles import plain
from c4c.extract.backbone.tensor_pickles import KINDS, Module, Slice, Storage, TensorUnpickler

ZIP = b"PK\x03\x04"
# Bytes, far beyond what weights need: a traced ViT-L/14 has a pickle of 64 kB, 1,259 records, and
# 268 kB of code. So a reading stays within seconds.
_PART, _CODE = 4 << 20, 32 << 20
_DEPTH, _LETTERS = 64, 1000
# A table may name a tensor twice, as tied weights do, but not blow a file up.
_REPEATS = 2
# How TorchScript's code begins a class: which of its tensors are the state is said there only.
_CLASS = re.compile(
    r"^class (\w+)\(Module\):\n  (__parameters__ = \[.*\]\n  __buffers__ = \[.*\])$", re.M
)
_QUOTED = re.compile(r'"([^"]*)"')
_COUNT = struct.Struct("<q")
_LOCAL = struct.Struct("<26xHH")
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class TorchFile:
    """A file of ``torch.save`` or TorchScript, open.

    Attributes:
        tree: what it holds, with a ``Slice`` for each tensor; of TorchScript the state dict.
        is_script: whether it is TorchScript's.
    """

    tree: Any
    is_script = False

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.size = stream.seek(0, io.SEEK_END)

    def tensors(self, chosen: Mapping[str, Slice]) -> dict[str, Tensor]:
        """Read the tensors behind ``chosen``.

        Raises:
            C4CError: together they claim more than the file holds, or one is cut or damaged.
        """
        storages = {one.storage for one in chosen.values()}
        if sum(one.nbytes for one in storages) > self.size or (
            sum(one.nbytes for one in chosen.values()) > _REPEATS * self.size
        ):
            raise C4CError("its tensors claim more than the file holds")
        held = {one: self._read(one).view(KINDS[one.kind]) for one in storages}
        return {
            name: held[one.storage].as_strided(one.size, one.stride, one.offset)
            for name, one in chosen.items()
        }

    def _read(self, storage: Storage) -> Tensor:
        """The bytes of a storage, uint8."""
        raise NotImplementedError

    def _bytes(self, place: int, size: int) -> Tensor:
        """So many bytes of the file, uint8 [size]."""
        if place + size > self.size:
            raise C4CError("it is cut short")
        found = torch.empty(size, dtype=torch.uint8)
        self.stream.seek(place)
        if self.stream.readinto(found.numpy().data) != size:
            raise C4CError("it became shorter while it was read")
        return found


@contextmanager
def open_torch(path: Path) -> Iterator[TorchFile]:
    """Open a file that torch wrote.

    Raises:
        C4CError: it holds anything but tables and tensors, or more than a file of weights does.
    """
    with path.open("rb") as stream:
        is_zip = stream.read(len(ZIP)) == ZIP
        yield _Zip(stream) if is_zip else _Stream(stream)


class _Careful(io.BufferedReader):
    """A file of which no reader takes a large piece at once: ``zipfile`` reads what it is told."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _PART
        if size > _PART + 1:
            raise C4CError("its table of contents is far too long")
        return super().read(size)


class _Zip(TorchFile):
    """The zips of ``torch.save`` and of TorchScript."""

    def __init__(self, stream: io.BufferedReader) -> None:
        super().__init__(stream)
        self._zip = zipfile.ZipFile(_Careful(io.FileIO(stream.fileno(), closefd=False)))
        self._records = {one.filename: one for one in self._zip.infolist()}
        if len(self._records) != len(self._zip.infolist()):
            raise C4CError("two of its records have the same name")
        self._root = self._zip.infolist()[0].filename.split("/")[0] if self._records else ""
        self._classes: dict[str, dict[str, frozenset[str]]] = {}
        self._code_left = _CODE
        if self._has("byteorder") and self._small("byteorder", 16) != b"little":
            raise C4CError("it was written on a big-endian machine; save it again on another")
        data = self._small("data.pkl", _PART)
        self.tree = TensorUnpickler(io.BytesIO(data)).load()
        if isinstance(self.tree, Module):
            self.is_script = True
            self.tree = self._state(self.tree, most=len(data))

    def _has(self, name: str) -> bool:
        return f"{self._root}/{name}" in self._records

    def _record(self, name: str) -> zipfile.ZipInfo:
        found = self._records.get(f"{self._root}/{name}")
        if found is None:
            raise C4CError(f"it has no record {plain(name)}")
        if found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise C4CError(f"its record {plain(name)} is packed in a way that torch does not use")
        return found

    def _small(self, name: str, most: int) -> bytes:
        """A record of at most so many bytes, whatever the directory says of its size."""
        record = self._record(name)
        record.CRC = record.CRC or None  # type: ignore[assignment]  # torch may write 0: not known
        with self._zip.open(record) as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            raise C4CError(f"its record {plain(name)} is far too long")
        return data

    def _read(self, storage: Storage) -> Tensor:
        record = self._record(f"data/{storage.key}")
        if record.compress_type != zipfile.ZIP_STORED:
            raise C4CError("its tensors are compressed; save it again with torch.save")
        if not record.file_size == record.compress_size == storage.nbytes:
            raise C4CError(
                f"a tensor claims {storage.nbytes} bytes of record data/{plain(storage.key)}, "
                f"which has {record.file_size}"
            )
        found = self._bytes(self._start(record), storage.nbytes)
        if record.CRC and zlib.crc32(found.numpy().data) != record.CRC:
            raise C4CError(f"its record data/{plain(storage.key)} is damaged")
        return found

    def _start(self, record: zipfile.ZipInfo) -> int:
        """Where the bytes of a record begin: behind its own header, a name, and more."""
        self.stream.seek(record.header_offset)
        header = self.stream.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(ZIP):
            raise C4CError("its table of contents points to no record")
        name, more = _LOCAL.unpack(header)
        return record.header_offset + len(header) + int(name) + int(more)

    def _state(self, root: Module, most: int) -> dict[str, Slice]:
        """The state dict of a module of TorchScript: its parameters, its buffers, its modules'."""
        state: dict[str, Slice] = {}
        todo = [("", root, 0)]
        while todo:
            prefix, module, depth = todo.pop()
            names = self._state_names(module.kind)
            most -= 1 + len(module.attributes)
            if most < 0 or depth > _DEPTH:
                raise C4CError("its modules hold each other without end")
            for name, value in module.attributes.items():
                if type(name) is not str or len(prefix) + len(name) > _LETTERS:
                    raise C4CError("one of its names is far too long, or none")
                if isinstance(value, Module):
                    todo.append((f"{prefix}{name}.", value, depth + 1))
                elif isinstance(value, Slice) and (names is None or name in names):
                    state[prefix + name] = value
        return state

    def _state_names(self, kind: str) -> frozenset[str] | None:
        """Names of a class's parameters and buffers as its code lists them; ``None``: no list.

        The code is searched as text.
        """
        file, _, name = kind.rpartition(".")
        if file not in self._classes:
            self._classes[file] = self._listed("code/" + file.replace(".", "/") + ".py")
        return self._classes[file].get(name)

    def _listed(self, record: str) -> dict[str, frozenset[str]]:
        if not self._has(record):
            return {}
        code = self._small(record, self._code_left)
        self._code_left -= len(code)
        found = _CLASS.findall(code.decode("utf-8", "replace"))
        return {name: frozenset(_QUOTED.findall(listed)) for name, listed in found}


class _Stream(TorchFile):
    """What ``torch.save`` wrote before version 1.6: pickles, then the numbers, one behind another.

    The pickles are a magic number, the version, the machine, the content, and the storages' names.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        super().__init__(stream)
        stream.seek(0)
        head = io.BytesIO(stream.read(_PART))
        magic, version, machine = (TensorUnpickler(head).load() for _ in range(3))
        if (magic, version) != (_MAGIC, _PROTOCOL) or type(machine) is not dict:
            raise C4CError("it is not a file of torch.save")
        if machine.get("little_endian") is not True:
            raise C4CError("it was written on a big-endian machine; save it again on another")
        content = TensorUnpickler(head)
        self.tree = content.load()
        keys = TensorUnpickler(head).load()
        if type(keys) is not list or not all(
            type(key) is str and key in content.storages for key in keys
        ):
            raise C4CError("its list of storages is damaged")
        self._places: dict[str, int] = {}
        place = head.tell()
        for key in keys:
            self._places[key] = place
            place += _COUNT.size + content.storages[key].nbytes

    def _read(self, storage: Storage) -> Tensor:
        place = self._places[storage.key]
        self.stream.seek(place)
        if self.stream.read(_COUNT.size) != _COUNT.pack(storage.count):
            raise C4CError("it is cut short, or damaged where a tensor begins")
        return self._bytes(place + _COUNT.size, storage.nbytes)
