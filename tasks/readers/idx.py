"""Reading idx files, the format in which MNIST and its successors are published."""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.images import Images
from tangentscope.tasks.readers.published import Published

UINT8 = 0x08  # the format's code for unsigned bytes

CLASSES = 10
SIDE = 28


class Idx(NamedTuple):
    """Contents of an idx file: a read-only uint8 array, and the bytes of the (uncompressed) file."""

    array: np.ndarray
    content: bytes


def read_images(folder: Path, published: Published, instead: str = "") -> tuple[Images, Images, str]:
    """Training and test images of a data set in MNIST's four files, and a phrase that says which files these are.

    Raises:
        DataError: if some of the four are missing, with `instead` as what else to do, or any is damaged.
    """
    paths = published.located(folder)
    if missing := published.md5.keys() - paths.keys():
        raise DataError(
            f"{published.title} in {folder} is incomplete: {', '.join(sorted(missing))} missing, expected all of "
            f"{', '.join(published.md5)}: put what is missing there, plain or as .gz{instead}"
        )
    train, train_published = _read_split(paths, "train", published)
    test, test_published = _read_split(paths, "t10k", published)
    if train_published and test_published:
        return train, test, f"the published idx files in {folder}"
    return train, test, f"idx files in {folder} that are not the published files"


def _read_split(paths: dict[str, Path], prefix: str, published: Published) -> tuple[Images, bool]:
    images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    images, images_content = read_idx(paths[images_name], ndim=3)
    labels, labels_content = read_idx(paths[labels_name], ndim=1)
    own = f"put {published.title}'s own file there"
    if len(images) == 0 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{paths[images_name]} holds an array of shape {images.shape}, expected images of {SIDE}×{SIDE} pixels: "
            f"{own}"
        )
    if len(labels) != len(images):
        raise DataError(
            f"{paths[labels_name]} has {len(labels):,} labels for the {len(images):,} images of "
            f"{paths[images_name].name}, expected one each: put the files of one data set there"
        )
    if labels.max() >= CLASSES:
        raise DataError(f"{paths[labels_name]} has a label {labels.max()}, expected 0 to {CLASSES - 1}: {own}")
    contents = {images_name: images_content, labels_name: labels_content}
    as_published = all(published.is_published(name, content) for name, content in contents.items())
    return Images(images[:, None], labels), as_published


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
    return Idx(array, content)
