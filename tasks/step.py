"""The Heaviside step on [−1, 1]: a toy in which one learned feature is enough (Nam §2.2)."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.regression import Regression


class Step(Regression, frozen=True):
    """Is a number positive? Half the squared error, R² as the score.

    Inputs are float32 `[n, 1]` in [−1, 1], targets float32 `[n, 1]`: 0 below zero, 1 above. Test points are evenly
    spaced, in the middle of as many equal parts.

    Args:
        train_size: points to learn from, uniform at random.
        test_size: even, so that none lies at zero.
        data_seed: which points to learn from.
    """

    name: Literal["step"] = "step"
    train_size: int = Field(default=1000, ge=1, le=10_000_000)
    test_size: int = Field(default=1000, ge=2, le=10_000_000, multiple_of=2)
    data_seed: int = Field(default=0, ge=0, lt=2**32)

    version: ClassVar[int] = 1

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The points; nothing is read from `data_dir`."""
        # Only RandomState promises the same draws in every numpy release.
        train = np.random.RandomState(self.data_seed).uniform(-1, 1, self.train_size)
        test = (2 * np.arange(self.test_size) + 1) / self.test_size - 1
        return TaskData(
            _split(train),
            _split(test),
            input_shape=(1,),
            outputs=1,
            source=f"Heaviside step, {self.train_size} train points (data_seed {self.data_seed}) and {self.test_size} "
            "evenly spaced test points of [−1, 1]",
        )


def _split(x: np.ndarray) -> Split:
    inputs = torch.from_numpy(x.astype(np.float32))[:, None]
    return Split(inputs, (inputs > 0).float())
