"""What tasks that classify images share: draws, standardisation, loss, score, augmentation."""

from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.published import Published

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
    """

    train_size: Size | None = None
    test_size: Size | None = None
    data_seed: int = Field(default=0, ge=0, lt=2**32)

    score_name: ClassVar[str] = "accuracy"
    published: ClassVar[Published]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, `[n]`, of logits `[n, classes]` and labels `[n]`."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy, in [0, 1]: the share of labels `[n]` at which the logits `[n, classes]` are largest."""
        return int((outputs.argmax(1) == targets).sum()) / len(targets)

    def _data(self, train: Images, test: Images, classes: int, origin: str, pad: int = 0) -> TaskData:
        """The draws from all there is; `pad` pixels of black are added on each side."""
        drawn_train = self._draw("train", train, self.train_size, origin, pad)
        drawn_test = self._draw("test", test, self.test_size, origin, pad)
        return TaskData(
            train=drawn_train,
            test=drawn_test,
            input_shape=(len(self.mean), *(side + 2 * pad for side in train.pixels.shape[2:])),
            outputs=classes,
            source=f"{self.published.title}, {len(drawn_train):,} of {len(train.labels):,} train and "
            f"{len(drawn_test):,} of {len(test.labels):,} test images (data_seed {self.data_seed}) from {origin}",
        )

    def _draw(self, split: str, images: Images, size: int | None, origin: str, pad: int) -> Split:
        available = len(images.labels)
        if size is not None and size > available:
            raise DataError(
                f"task.{split}_size is {size:,}, but there are only {available:,} {split} images in {origin}: "
                "ask for fewer or name a data directory with more"
            )
        # These draws are part of a run's identity, and only RandomState promises the same ones in every numpy release.
        drawn = np.random.RandomState(self.data_seed).permutation(available)[:size]
        pixels = np.pad(images.pixels[drawn], ((0, 0), (0, 0), (pad, pad), (pad, pad))).astype(np.float32)
        pixels /= 255
        pixels -= np.array(self.mean, np.float32)[:, None, None]
        pixels /= np.array(self.std, np.float32)[:, None, None]
        return Split(torch.from_numpy(pixels), torch.from_numpy(images.labels[drawn].astype(np.int64)))


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
