"""A file's bytes as an array, mapped and not read, for any number of files at once."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import weakref
from typing import Any

import numpy as np

from c4c.cache.hdf5 import Image


def map_file(handle: int, size: int) -> Image:
    """A file's bytes, mapped read-only, uint8 [size]; the handle may be closed afterwards.

    Where the file system cannot map (some of FUSE) they are read.

    Python's own ``mmap`` keeps a descriptor open for each map (until 3.13), and a large cache
    has more shards than a process may open files; so the C function is called.

    Raises:
        OSError: no address space, or the file system cannot map.
    """
    if size == 0:
        return np.zeros(0, np.uint8)
    address = _libc().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
    if address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        if code == errno.ENODEV:
            with open(os.dup(handle), "rb") as stream:
                return np.frombuffer(stream.read(size), np.uint8)
        raise OSError(code, os.strerror(code))
    held: Any = (ctypes.c_uint8 * size).from_address(address)
    weakref.finalize(held, _libc().munmap, address, size).atexit = False
    image: Image = np.frombuffer(held, np.uint8)
    image.flags.writeable = False
    return image


def _libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    ]  # fmt: skip
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library
