"""Reading idx files, the format in which MNIST and its successors are published."""

import gzip
import hashlib
import struct
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import DataError

UINT8 = 0x08  # the format's code for unsigned bytes


class Idx(NamedTuple):
    """Contents of an idx file: a read-only uint8 array, and the MD5 of the (uncompressed) file."""

    array: np.ndarray
    md5: str


def read_idx(path: Path, ndim: int) -> Idx:
    """Read an idx file of unsigned bytes with `ndim` dimensions, plain or (named `.gz`) compressed.

    torchvision's reader is not used because it reads no `.gz`, and its errors do not name the file.

    Raises:
        DataError: if the file cannot be read, is cut off or too long, or is no such idx file.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): put an undamaged copy there") from error

    header = struct.Struct(f">4s{ndim}I")
    if len(content) < header.size:
        raise DataError(
            f"{path} is cut off: got {len(content)} bytes, its header has {header.size}: put an undamaged copy there"
        )
    magic, *shape = header.unpack_from(content)
    expected_magic = bytes([0, 0, UINT8, ndim])
    if magic != expected_magic:
        raise DataError(
            f"{path} is no idx file of bytes with {ndim} dimension(s): it starts with {magic.hex()}, expected "
            f"{expected_magic.hex()}: put the right file there"
        )
    if len(content) != header.size + prod(shape):
        raise DataError(
            f"{path} is damaged: got {len(content):,} bytes, expected {header.size + prod(shape):,} by its own header: "
            "put an undamaged copy there"
        )
    array = np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)
    return Idx(array, hashlib.md5(content, usedforsecurity=False).hexdigest())
