"""HDF5 from elsewhere: mapped arrays of just the form a shard has, or an error.

Nothing is followed out of the file: hard links to plain contiguous arrays of the expected type
that lie within it. Everything else that HDF5 can express is refused.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError

Image = npt.NDArray[np.uint8]


def map_file(path: Path) -> Image:
    """A file's bytes, mapped read-only, uint8 [size].

    Python's own ``mmap`` keeps a descriptor open for each map (until 3.13), and a large cache
    has more shards than a process may open files; so the C function is called.

    Raises:
        OSError: no such file, no permission, no address space.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        if size == 0:
            return np.zeros(0, np.uint8)
        address = _libc().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
        if address == ctypes.c_void_p(-1).value:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(handle)
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


def array_of(path: Path, file: h5py.File, name: str, dtype: Any, rank: int, image: Image) -> Any:
    """The array ``name`` as a view of the mapped file.

    Raises:
        C4CError: it is missing, leads elsewhere, is of another form, or claims too many bytes.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise C4CError(f"{path}: '{name}' is missing, or a link to elsewhere; not a c4c shard.")
    data = file[name]
    plain = (
        isinstance(data, h5py.Dataset)
        and data.dtype == dtype
        and data.ndim == rank
        and data.chunks is None
        and not data.is_virtual
        and not data.external
    )
    if not plain or data.id.get_create_plist().get_nfilters():
        raise C4CError(f"{path}: '{name}' is not a plain array of the expected type.")
    if data.size == 0:
        return np.zeros(data.shape, dtype)
    offset = data.id.get_offset()
    size = data.size * data.dtype.itemsize
    if offset is None or offset + size > len(image):
        raise C4CError(f"{path}: '{name}' claims more bytes than the file has; it is cut short.")
    return image[offset : offset + size].view(dtype).reshape(data.shape)
