"""Reading pickled batches, the format in which CIFAR-10 and CIFAR-100 are published, without running what they say."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np

from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.images import Images
from tangentscope.tasks.readers.published import Published

SIDE = 32
PIXELS = 3 * SIDE * SIDE
# All that a pickled dict of arrays, lists and text asks for; anything else is not built.
ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Arrays only."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_batches(
    folder: Path, published: Published, splits: Sequence[Sequence[str]], labels: str, classes: int, partial: bool
) -> tuple[Images, Images, str]:
    """Training and test images of a data set in pickled batches, and a phrase that says which files these are.

    Args:
        folder: holds the files.
        published: which files there should be.
        splits: names of the training batches, in order, and of the test batches.
        labels: the batches' key of the labels.
        classes: labels are below this.
        partial: whether an incomplete set, or files that are not the published ones, will do.

    Raises:
        DataError: if the set is not the complete published one and `partial` is not set; if there is no batch of a
            split, or a batch is damaged.
    """
    contents = {name: _content(path) for name, path in published.located(folder).items()}
    absent = [name for name in published.md5 if name not in contents]
    strange = [name for name, content in contents.items() if not published.is_published(name, content)]
    wrong = [f"{', '.join(absent)} missing"] * bool(absent) + [f"{', '.join(strange)} not as published"] * bool(strange)
    if wrong and not partial:
        raise DataError(
            f"{folder} is not the complete {published.title} ({'; '.join(wrong)}): put the published files there, or "
            "set task.partial to true to use what is there, which every result will say"
        )
    train, test = ([name for name in names if name in contents] for names in splits)
    if not train or not test:
        raise DataError(
            f"{folder} has no {'training' if not train else 'test'} batch of {published.title}, expected one of "
            f"{', '.join(splits[0] if not train else splits[1])} at least: put it there"
        )
    read = {name: _images(folder / name, contents[name], labels, classes) for name in (*train, *test)}
    origin = f"an incomplete set in {folder} ({'; '.join(wrong)})" if wrong else f"the published files in {folder}"
    return _joined([read[name] for name in train]), _joined([read[name] for name in test]), origin


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): put an undamaged copy there") from error


def _images(path: Path, content: bytes, key: str, classes: int) -> Images:
    try:
        # Published by Python 2, whose text is bytes.
        batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(f"{path} is no batch of images ({_line(error)}): put an undamaged copy there") from error
    pixels, labels = (batch.get("data"), batch.get(key)) if isinstance(batch, dict) else (None, None)
    if not _are_images(pixels):
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"{path} has {found} as data, expected uint8 [n, {PIXELS}]: put an undamaged copy there")
    if not isinstance(labels, list) or len(labels) != len(pixels) or not all(_is_label(k, classes) for k in labels):
        raise DataError(
            f"{path} has no list of {len(pixels):,} {key}, one for each image, from 0 to {classes - 1}: put an "
            "undamaged copy there"
        )
    return Images(pixels.reshape(-1, 3, SIDE, SIDE), np.array(labels))


def _are_images(pixels: object) -> TypeGuard[np.ndarray]:
    if not isinstance(pixels, np.ndarray):
        return False
    return pixels.dtype == np.uint8 and pixels.shape[1:] == (PIXELS,) and len(pixels) > 0


def _is_label(label: object, classes: int) -> bool:
    return isinstance(label, int) and 0 <= label < classes


def _joined(batches: Sequence[Images]) -> Images:
    return Images(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
