"""What tasks that classify images share: draws, standardisation, loss, score, augmentation."""

from typing import Annotated, ClassVar, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.published import Published
from tangentscope.tasks.readers.replacing import NOISE, noisy_copies

Size = Annotated[int, Field(ge=1)]


class Images(NamedTuple):
    """Images and what they show: uint8 `[n, channels, height, width]` and integers `[n]`."""

    pixels: np.ndarray
    labels: np.ndarray


class ImageTask(Task, frozen=True):
    """Classify images: cross-entropy on a logit for each class; the kernel differentiates all of them.

    Inputs are float32 `[n, channels, height, width]`, pixels scaled to [0, 1] and then standardised with the training
    set's mean and deviation of each channel, as the field rounds them; targets are int64 `[n]`.

    Args:
        train_size: how many training images to draw; all, unless given.
        test_size: how many test images to draw; all, unless given.
        data_seed: which random order they are drawn in. A smaller draw is the beginning of a larger one with the same
            seed. It never moves the border between training and test images.
        test_seed: the same for the test images alone, so that several draws of training images are tested on the same;
            `data_seed`, unless given.
        per_class: how many training images of each class to draw, in place of `train_size`.
        replaced: share of each class's training images, once drawn, in whose place noisy copies of the others stand
            (BSC App. D.2), see `noisy_copies`. Test images are never touched.
    """

    train_size: Size | None = None
    test_size: Size | None = None
    data_seed: int = Field(default=0, ge=0, lt=2**32)
    test_seed: int | None = Field(default=None, ge=0, lt=2**32)
    per_class: Size | None = None
    replaced: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)

    score_name: ClassVar[str] = "accuracy"
    published: ClassVar[Published]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.per_class is not None and self.train_size is not None:
            raise ValueError(f"got train_size {self.train_size} and per_class {self.per_class}; give one of them")
        return self

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, `[n]`, of logits `[n, classes]` and labels `[n]`."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy, in [0, 1]: the share of labels `[n]` at which the logits `[n, classes]` are largest."""
        return int((outputs.argmax(1) == targets).sum()) / len(targets)

    def _data(self, train: Images, test: Images, classes: int, origin: str, pad: int = 0) -> TaskData:
        """The draws from all there is; `pad` pixels of black are added on each side."""
        chosen_train = self._chosen_of_classes(train, origin) if self.per_class else None
        chosen_train = self._order("train", train, self.train_size, origin) if chosen_train is None else chosen_train
        chosen_test = self._order("test", test, self.test_size, origin)
        pixels, labels = _scaled(train, chosen_train), train.labels[chosen_train]
        if self.replaced:
            pixels = noisy_copies(pixels, labels, self.replaced, self.data_seed)
        drawn_train = self._split(pixels, labels, pad)
        drawn_test = self._split(_scaled(test, chosen_test), test.labels[chosen_test], pad)
        return TaskData(
            train=drawn_train,
            test=drawn_test,
            input_shape=(len(self.mean), *(side + 2 * pad for side in train.pixels.shape[2:])),
            outputs=classes,
            source=f"{self.published.title}, {len(drawn_train):,} of {len(train.labels):,} train and "
            f"{len(drawn_test):,} of {len(test.labels):,} test images ({self._told()}) from {origin}",
        )

    def _told(self) -> str:
        """How the images were drawn."""
        told = [f"data_seed {self.data_seed}"]
        told += [] if self.test_seed is None else [f"of test images {self.test_seed}"]
        told += [] if self.per_class is None else [f"{self.per_class:,} of each class for training"]
        told += [f"{self.replaced:g} of them replaced by copies with noise of {NOISE:g}"] if self.replaced else []
        return ", ".join(told)

    def _order(self, split: str, images: Images, size: int | None, origin: str) -> np.ndarray:
        """Places of the images drawn."""
        available = len(images.labels)
        if size is not None and size > available:
            raise DataError(
                f"task.{split}_size is {size:,}, but there are only {available:,} {split} images in {origin}: "
                "ask for fewer or name a data directory with more"
            )
        # These draws are part of a run's identity, and only RandomState promises the same ones in every numpy release.
        seed = self.data_seed if split == "train" or self.test_seed is None else self.test_seed
        return np.random.RandomState(seed).permutation(available)[:size]

    def _chosen_of_classes(self, images: Images, origin: str) -> np.ndarray:
        """Places of the first `per_class` training images of each class, in the order in which all are drawn."""
        order, wanted = self._order("train", images, None, origin), self.per_class or 0
        labels = images.labels[order]
        keep = np.zeros(len(order), dtype=bool)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            if len(members) < wanted:
                raise DataError(
                    f"task.per_class is {wanted:,}, but there are only {len(members):,} training images of class "
                    f"{label} in {origin}: ask for fewer or name a data directory with more"
                )
            keep[members[:wanted]] = True
        return order[keep]

    def _split(self, pixels: np.ndarray, labels: np.ndarray, pad: int) -> Split:
        """Standardised, with black around."""
        pixels = np.pad(pixels, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        pixels -= np.array(self.mean, np.float32)[:, None, None]
        pixels /= np.array(self.std, np.float32)[:, None, None]
        return Split(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


def _scaled(images: Images, places: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] of the images at some places."""
    pixels = images.pixels[places].astype(np.float32)
    pixels /= 255
    return pixels


def crop_and_flip(images: Tensor, black: Tensor, padding: int = 4) -> Tensor:
    """Each image padded with black, cut out again at a random place, and mirrored left to right or not.

    What training on CIFAR usually does (He et al. 2015, §4.2), with draws of its own for each image, from torch's
    generator of the images' device.

    Args:
        images: `[n, channels, height, width]`.
        black: what black is, by channel, `[channels]`.
        padding: pixels on each side.
    """
    n, channels, height, width = images.shape
    padded = black.to(images).view(-1, 1, 1).repeat(n, 1, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    top, left = torch.randint(2 * padding + 1, (2, n, 1), device=images.device)
    mirrored = torch.rand(n, 1, device=images.device) < 0.5
    rows = top + torch.arange(height, device=images.device)  # [n, height]
    columns = left + torch.arange(width, device=images.device)
    columns = torch.where(mirrored, columns.flip(1), columns)
    points, channel = (torch.arange(size, device=images.device) for size in (n, channels))
    return padded[points[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None]]
