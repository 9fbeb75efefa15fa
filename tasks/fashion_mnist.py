"""Fashion-MNIST: articles of clothing in MNIST's format (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747)."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from tangentscope.tasks.data import TaskData
from tangentscope.tasks.readers.idx import CLASSES, read_images
from tangentscope.tasks.readers.objectives import LabelledImages
from tangentscope.tasks.readers.published import Published

PUBLISHED_MD5 = {  # of the uncompressed files
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST  # a second to load, and needed here only

    FashionMNIST(root, download=True)


class FashionMnist(LabelledImages, frozen=True):
    """Classify 28×28 grey images of clothing: cross-entropy on ten logits; the kernel differentiates all ten.

    Inputs, targets, `train_size`, `test_size` and `data_seed` are as in `ImageTask`, objective and wrong labels as in
    `LabelledImages`.

    Args:
        pad: pixels of black added on each side; 2 makes images of 32×32.
    """

    name: Literal["fashion_mnist"] = "fashion_mnist"
    pad: int = Field(default=0, ge=0, le=100)

    version: ClassVar[int] = 1
    published: ClassVar[Published] = Published(
        "fashion_mnist",
        "Fashion-MNIST",
        "FashionMNIST/raw",
        PUBLISHED_MD5,
        "https://github.com/zalandoresearch/fashion-mnist",
        _download,
        compressed=True,
    )
    mean: ClassVar[tuple[float, ...]] = (0.2860,)
    std: ClassVar[tuple[float, ...]] = (0.3530,)

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The images and labels; `TaskData.source` says whether the files are the published ones.

        Args:
            data_dir: holds the four idx files, plain or as `.gz`, in `fashion_mnist/FashionMNIST/raw` or
                `FashionMNIST/raw`.

        Raises:
            DataError: if there are no such files, some are missing or any is damaged; if there are fewer images than
                asked for.
        """
        folder = self.published.folder(data_dir)
        if folder is None:
            raise self.published.missing(data_dir)
        train, test, origin = read_images(folder, self.published)
        return self._data(train, test, CLASSES, origin, self.pad)
