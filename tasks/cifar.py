"""CIFAR-10 and CIFAR-100: small colour photographs (Krizhevsky 2009), from the published batches or a part of them."""

import difflib
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from tangentscope.tasks.data import TaskData
from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.cifar_batches import read_batches
from tangentscope.tasks.readers.images import Images, crop_and_flip
from tangentscope.tasks.readers.objectives import LabelledImages
from tangentscope.tasks.readers.published import Published

HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"


class Cifar(LabelledImages, frozen=True):
    """Classify 32×32 colour photographs: cross-entropy on a logit for each class, all of which the kernel sees.

    Inputs, targets, `train_size`, `test_size` and `data_seed` are as in `ImageTask`, objective and wrong labels as in
    `LabelledImages`.

    Args:
        classes: names of the classes to tell apart, labelled from 0 in this order, or how many of the first in the
            published order; all of them unless given. Sizes are drawn from the images of these.
        augment: `crop_flip` shows the network each training image padded by 4 black pixels, cropped at a random place
            and mirrored or not, anew in every step.
        partial: whether an incomplete set, or files that are not the published ones, will do. Every result says so.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=2)] | Annotated[int, Field(ge=2)] | None = None
    augment: Literal["none", "crop_flip"] = "none"
    partial: bool = False

    train_batches: ClassVar[tuple[str, ...]]
    test_batches: ClassVar[tuple[str, ...]]
    labels_key: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]  # in the order of their labels

    @field_validator("classes")
    @classmethod
    def _known(cls, names: tuple[str, ...] | int | None) -> tuple[str, ...] | int | None:
        if isinstance(names, int):
            if names > len(cls.class_names):
                raise ValueError(f"expected {len(cls.class_names)} classes at most")
            return names
        for name in names or ():
            if name not in cls.class_names:
                close = difflib.get_close_matches(name, cls.class_names, n=1)
                hint = f'did you mean "{close[0]}"?' if close else f"allowed: {', '.join(cls.class_names)}"
                raise ValueError(f'class "{name}" unknown; {hint}')
        if names and len(set(names)) < len(names):
            raise ValueError(f"each class may stand once, got {', '.join(names)}")
        return names

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The images and labels; `TaskData.source` says whether they are the complete published set.

        Args:
            data_dir: holds the batches in torchvision's layout, below a folder of the task's name or itself.

        Raises:
            DataError: if there are no batches; if the set is incomplete or not the published one, and `partial` is not
                set; if a batch is damaged; if there are fewer images than asked for.
        """
        folder = self.published.folder(data_dir)
        if folder is None:
            raise self.published.missing(data_dir)
        splits = (self.train_batches, self.test_batches)
        known = len(self.class_names)
        train, test, origin = read_batches(folder, self.published, splits, self.labels_key, known, self.partial)
        if self.classes:
            origin = f"the classes {', '.join(self._names)} of {origin}"
            train, test = (self._chosen(images, origin) for images in (train, test))
        return self._data(train, test, len(self._names), origin)

    def augmented(self, inputs: Tensor) -> Tensor:
        """`[m, 3, 32, 32]`, see `augment`."""
        if self.augment == "none":
            return inputs
        return crop_and_flip(inputs, black=-torch.tensor(self.mean) / torch.tensor(self.std))

    @property
    def _names(self) -> tuple[str, ...]:
        """Of the classes to tell apart."""
        chosen = self.classes or len(self.class_names)
        return self.class_names[:chosen] if isinstance(chosen, int) else chosen

    def _chosen(self, images: Images, origin: str) -> Images:
        numbers = np.full(len(self.class_names), -1)
        for number, name in enumerate(self._names):
            numbers[self.class_names.index(name)] = number
        labels = numbers[images.labels]
        if not (labels >= 0).any():
            raise DataError(f"there is no image of {origin}: ask for other classes or get the complete set")
        return Images(images.pixels[labels >= 0], labels[labels >= 0])


def _download(root: Path) -> None:
    from torchvision.datasets import CIFAR10  # a second to load, and needed here only

    CIFAR10(root, download=True)


PUBLISHED_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CLASS_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"


class Cifar10(Cifar, frozen=True):
    """Classify 32×32 colour photographs of ten classes: all that `Cifar` says."""

    name: Literal["cifar10"] = "cifar10"

    version: ClassVar[int] = 1
    published: ClassVar[Published] = Published(
        "cifar10", "CIFAR-10", "cifar-10-batches-py", PUBLISHED_MD5, HOME, _download
    )
    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)
    train_batches: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{number}" for number in range(1, 6))
    test_batches: ClassVar[tuple[str, ...]] = ("test_batch",)
    labels_key: ClassVar[str] = "labels"
    class_names: ClassVar[tuple[str, ...]] = tuple(CLASS_NAMES.split())


def _download_100(root: Path) -> None:
    from torchvision.datasets import CIFAR100

    CIFAR100(root, download=True)


CLASS_NAMES_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
PUBLISHED_MD5_100 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}


class Cifar100(Cifar, frozen=True):
    """Classify 32×32 colour photographs of a hundred (fine) classes: all that `Cifar` says."""

    name: Literal["cifar100"] = "cifar100"

    version: ClassVar[int] = 1
    published: ClassVar[Published] = Published(
        "cifar100", "CIFAR-100", "cifar-100-python", PUBLISHED_MD5_100, HOME, _download_100
    )
    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)
    train_batches: ClassVar[tuple[str, ...]] = ("train",)
    test_batches: ClassVar[tuple[str, ...]] = ("test",)
    labels_key: ClassVar[str] = "fine_labels"
    class_names: ClassVar[tuple[str, ...]] = tuple(CLASS_NAMES_100.split())
