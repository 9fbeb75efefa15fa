"""What images may be trained on beside their classes' cross-entropy: squared errors, scaled targets, wrong labels."""

from dataclasses import replace
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.readers.images import Images, ImageTask

Objective = Literal["cross_entropy", "mse_one_hot", "mse_scalar"]


class LabelledImages(ImageTask, frozen=True):
    """An image task whose labels can be learned in several ways, and be partly wrong.

    Args:
        objective: `cross_entropy` of a logit for each class; `mse_one_hot`, half the squared error of an output for
            each class, which is to be `target_scale` for the image's class and 0 for the others; `mse_scalar`, half
            the squared error of a single output, which is to be `target_scale` times the label. Its score is the share
            of images that it is nearer to than half a label (Nam fig. 3.6).
        target_scale: of squared errors; a small one keeps training lazy (Nam §6.3).
        label_noise: share of the training images whose label is replaced by one drawn uniformly from all classes, the
            true one among them. Test images keep theirs; with a larger share the images are the same and more.
        label_seed: of these draws.
    """

    objective: Objective = "cross_entropy"
    target_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    label_noise: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    label_seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _scaled_if_squared(self) -> Self:
        if self.target_scale != 1 and self.objective == "cross_entropy":
            raise ValueError(
                f"target_scale {self.target_scale:g} scales targets of a squared error; give objective: mse_one_hot"
            )
        return self

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of every point, `[n]`, of outputs `[n, outputs]` and targets: labels `[n]`, or of `mse_scalar` `[n, 1]`."""
        if self.objective == "cross_entropy":
            return super().loss(outputs, targets)
        if self.objective == "mse_one_hot":
            targets = self.target_scale * F.one_hot(targets, outputs.shape[1]).to(outputs)
        return 0.5 * (outputs - targets).square().sum(1)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy, in [0, 1]: the share of points whose class is the one that the outputs are nearest to."""
        if self.objective != "mse_scalar":
            return super().score(outputs, targets)
        return int(((outputs - targets).abs() < self.target_scale / 2).sum()) / len(targets)

    def _data(self, train: Images, test: Images, classes: int, origin: str, pad: int = 0) -> TaskData:
        data = super()._data(train, test, classes, origin, pad)
        if self.label_noise:
            wrong = Split(data.train.inputs, self._with_noise(data.train.targets, classes))
            told = f"{data.source}; labels of {self.label_noise:.3g} of the train images drawn at random"
            data = replace(data, train=wrong, source=f"{told} (label_seed {self.label_seed})")
        if self.objective == "mse_scalar":
            data = replace(data, outputs=1, train=self._as_numbers(data.train), test=self._as_numbers(data.test))
        return data

    def _with_noise(self, labels: Tensor, classes: int) -> Tensor:
        # Only RandomState promises the same draws in every numpy release.
        random = np.random.RandomState(self.label_seed)
        order, drawn = random.permutation(len(labels)), random.randint(classes, size=len(labels))
        chosen = torch.from_numpy(order[: round(self.label_noise * len(labels))])
        found = labels.clone()
        found[chosen] = torch.from_numpy(drawn.astype(np.int64))[chosen]
        return found

    def _as_numbers(self, split: Split) -> Split:
        return Split(split.inputs, self.target_scale * split.targets.float()[:, None])
