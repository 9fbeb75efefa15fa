"""What every task has: a frozen config, the data it loads, a loss and a score."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor

if TYPE_CHECKING:
    from tasks.published import Published


class DataError(ValueError):
    """Data that are missing, damaged or too few: one line with the file, what was got and expected, what to do."""


class MissingDataError(DataError):
    """Nothing is there of a data set; what is there is not wrong."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a task's data, in memory.

    Args:
        inputs: `[n, *input_shape]`.
        targets: `[n, ...]`, whatever the task's loss takes.

    Raises:
        ValueError: if there are not as many targets as inputs.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self):
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"a split needs one target per input; got {len(self.inputs)} inputs, {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.inputs)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets at `indices` (integers, `[m]`, on the split's device), in that order."""
        return self.inputs[indices], self.targets[indices]

    def to(self, device: torch.device | str) -> Split:
        """The same points on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class TaskData:
    """What `Task.load` gives.

    Args:
        train: points to learn from.
        test: points that training never sees.
        input_shape: shape of one input.
        outputs: how many outputs per point the kernel differentiates, which is also how many the model must have.
        source: a sentence for people: exactly which data these are and where they came from.
    """

    train: Split
    test: Split
    input_shape: tuple[int, ...]
    outputs: int
    source: str

    @cached_property
    def fingerprint(self) -> str:
        """Which data these are, for machines: 16 hex digits of the SHA-256 over both splits.

        Values, order, shapes and dtypes count.
        """
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.inputs, split.targets):
                array = tensor.cpu().contiguous().numpy()
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(array.data)
        return digest.hexdigest()[:16]


class Task(BaseModel, frozen=True, extra="forbid"):
    """The fields of a task, as a study file gives them.

    A subclass sets `name` to a `Literal` with its key in `tasks.TASKS`, `version` to an integer that goes up whenever
    the same fields begin to mean another loss, score or choice of data, and `score_name` to what its score is called.
    `published` is the data set it reads, for `tangentscope data`.
    """

    name: str
    version: ClassVar[int]
    score_name: ClassVar[str]
    published: ClassVar[Published | None] = None

    @abstractmethod
    def load(self, data_dir: Path | None = None) -> TaskData:
        """The data, the same at every call.

        Args:
            data_dir: where the user keeps data sets, each in the layout its field uses.

        Raises:
            DataError: if data are missing (a `MissingDataError` if nothing of them is there), damaged or fewer than
                asked for.
        """

    def augmented(self, inputs: Tensor) -> Tensor:
        """The inputs `[m, *input_shape]` of a training batch as the network is to see them in this step.

        Called in training only, never for evaluations or probes. Randomness comes from torch's generator of the inputs'
        device, which the caller seeds by seed, step and rank.
        """
        return inputs

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every point, `[n]`, for the caller to sum and divide by the size of the batch over all workers.

        Args:
            outputs: the model's, `[n, outputs]`.
            targets: as in `Split`, `[n, ...]`.
        """

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Score of a whole split at once (it need not be a mean over points). Arguments as in `loss`."""
