"""Arrays by name from ``.npy``, ``.npz`` and ``.pt`` files that strangers made: nothing in a file is ever executed.

What is not an array of plain numbers or text is refused before a byte of it is interpreted: numpy's pickled objects by
the array's header, torch's by ``weights_only``. A header is checked against the bytes that are there.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dml_bench.errors import DataError

Array = npt.NDArray[Any]
LARGE, TIMES = 1 << 30, 100  # bytes; a larger array that was squeezed by more than this is taken for a zip bomb


def read_npy(path: Path) -> Array:
    """Map the array of a ``.npy`` file, read-only: its values are read from disk as they are used."""
    return _mapped(path, path, 0, path.stat().st_size)


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Return those of the named arrays that a ``.npz`` file holds, and touch no other.

    What ``np.savez`` wrote is memory-mapped after one pass that compares its checksum; what ``np.savez_compressed``
    wrote is unpacked into memory.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        found = {name: _member(path, archive, members[name]) for name in names if name in members}
    if not found:
        raise DataError(f"{path}: none of its arrays ({_list(members)}) has a name that is read: {', '.join(names)}")
    return found


def read_pt(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Return those of the named tensors and lists that a ``.pt`` file holds; a lone tensor or list has the first name.

    Tensors are mapped where torch can (a private map: the system may refuse one larger than its memory); types that
    numpy has not, such as bfloat16, become float32 in memory.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:  # its own text advises to load the file without this protection
        raise DataError(
            f"{path}: holds something other than tensors, or is damaged; nothing in it was executed. "
            "Allowed: a tensor, or a dict of tensors and lists (a numpy array goes through torch.from_numpy)"
        ) from None
    if not isinstance(held, dict):
        held = {names[0]: held}
    found = {name: _plain(path, name, held[name]) for name in names if name in held}
    if not found:
        raise DataError(f"{path}: none of its keys ({_list(held)}) is a name that is read: {', '.join(names)}")
    return found


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    where = f"{path}: {info.filename}"
    if info.file_size > LARGE and info.file_size > TIMES * info.compress_size:
        raise DataError(f"{where}: {info.compress_size} bytes that unpack to {info.file_size}; save it with np.savez")
    if info.compress_type == zipfile.ZIP_STORED:
        with archive.open(info) as file:
            while file.read(1 << 20):  # the last read compares the checksum
                pass
        with path.open("rb") as raw:
            raw.seek(info.header_offset + 26)
            name, extra = (int.from_bytes(raw.read(2), "little") for _ in range(2))
        return _mapped(where, path, info.header_offset + 30 + name + extra, min(info.file_size, info.compress_size))
    with archive.open(info) as file:
        _header(where, file, info.file_size)
    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _mapped(where: object, path: Path, start: int, length: int) -> Array:
    with path.open("rb") as file:
        file.seek(start)
        shape, fortran, dtype = _header(where, file, length)
        offset = file.tell()
    if 0 in shape or dtype.itemsize == 0:  # an empty map does not exist
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _header(where: object, file: Any, length: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array that lies in the next ``length`` bytes, and check it against them."""
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{where}: format {version} of .npy is for records; allowed: an array of numbers or text")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{where}: holds Python objects, which are never loaded; allowed: an array of numbers or text")
    held, claimed = length - (file.tell() - start), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed > held:
        raise DataError(f"{where}: cut short: shape {shape} of {dtype} takes {claimed} bytes, and {held} are there")
    return shape, fortran, dtype


def _plain(path: Path, name: str, value: object) -> Array | list[Any]:
    """Return a tensor as the numpy array on the same memory where numpy has its type, and a list as it is."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, torch.Tensor):
        raise DataError(f"{path}: {name} is a {type(value).__name__}; allowed: a tensor or a list")
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        raise DataError(f"{path}: {name} is a {value.layout} tensor on {value.device}; allowed: a dense tensor")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise DataError(f"{path}: {name} claims shape {tuple(value.shape)}, and fewer values are there")
    tensor = value.detach().resolve_conj().resolve_neg()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:
        return np.asarray(tensor.float().numpy())


def _list(names: Any) -> str:
    return ", ".join(map(str, list(names)[:20])) or "none"
