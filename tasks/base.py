"""What every task has: a frozen config, the data it loads, a loss and a score."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

if TYPE_CHECKING:
    from tasks.graphs import Graphs
    from tasks.published import Published


class DataError(ValueError):
    """Data that are missing, damaged or too few: one line with the file, what was got and expected, what to do."""


class MissingDataError(DataError):
    """Nothing is there of a data set; what is there is not wrong."""


class NetworkError(ValueError):
    """A network that a task cannot learn with: one line with what was got and expected, and what to do."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a task's data, in memory.

    Args:
        inputs: `[n, *input_shape]`, or n graphs.
        targets: `[n, ...]`, whatever the task's loss takes.

    Raises:
        ValueError: if there are not as many targets as inputs.
    """

    inputs: Tensor | Graphs
    targets: Tensor

    def __post_init__(self):
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"a split needs one target per input; got {len(self.inputs)} inputs, {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.inputs)

    @property
    def device(self) -> torch.device:
        """Where the points lie."""
        return self.targets.device

    def batch(self, indices: Tensor) -> tuple[Any, Tensor]:
        """Inputs as networks take them, and targets, at `indices` (integers, `[m]`, on the split's device), in order.

        Inputs are a tensor, or of graphs a mini-batch of PyTorch Geometric.
        """
        return self.inputs[indices], self.targets[indices]

    def take(self, indices: Tensor) -> Split:
        """The points at `indices`, as a split."""
        inputs = self.inputs
        return Split(inputs[indices] if isinstance(inputs, Tensor) else inputs.take(indices), self.targets[indices])

    def to(self, device: torch.device | str) -> Split:
        """The same points on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """All the numbers of it, by name: `inputs` and `targets`; of graphs, `inputs.…` for each of their parts."""
        inputs = self.inputs
        parts = {"inputs": inputs} if isinstance(inputs, Tensor) else inputs.tensors("inputs.")
        return {**parts, "targets": self.targets}


@dataclass(frozen=True, eq=False)
class TaskData:
    """What `Task.load` gives.

    Args:
        train: points to learn from.
        test: points that training never sees.
        input_shape: shape of one input; of graphs, that of a node.
        outputs: how many outputs per point the kernel differentiates, which is also how many the model must have, at
            each place of a sequence whose places are labelled.
        source: a sentence for people: exactly which data these are and where they came from.
        codes: where inputs are codes from 0 and no numbers: of each part of an input, how many codes each of its
            features has.
        valid: points to choose by (an epoch, a rate), which training never sees either.
    """

    train: Split
    test: Split
    input_shape: tuple[int, ...]
    outputs: int
    source: str
    codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    valid: Split | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The parts there are, by name."""
        parts = {"train": self.train, "test": self.test}
        return parts if self.valid is None else parts | {"valid": self.valid}

    @cached_property
    def fingerprint(self) -> str:
        """Which data these are, for machines: 16 hex digits of the SHA-256 over all splits.

        Values, order, shapes and dtypes count.
        """
        digest = hashlib.sha256()
        for split in self.splits.values():
            for tensor in split.tensors().values():
                array = tensor.cpu().contiguous().numpy()
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(array.data)
        return digest.hexdigest()[:16]


class Task(BaseModel, frozen=True, extra="forbid"):
    """The fields of a task, as a study file gives them.

    A subclass sets `name` to a `Literal` with its key in `tasks.TASKS`, `version` to an integer that goes up whenever
    the same fields begin to mean another loss, score or choice of data, and `score_name` to what its score is called.
    `published` is the data set it reads, for `tangentscope data`; where a field `dataset` chooses among several,
    `data_sets` has each and `published` is the default's. `observes` says which outputs the kernel is of, where
    `observed` has something to say, and `targets_observed` whether targets and loss are of those outputs.
    """

    name: str
    version: ClassVar[int]
    score_name: ClassVar[str]
    published: ClassVar[Published | None] = None
    data_sets: ClassVar[Mapping[str, Published]] = {}
    observes: ClassVar[str] = "the network's outputs"
    targets_observed: ClassVar[bool] = True

    @abstractmethod
    def load(self, data_dir: Path | None = None) -> TaskData:
        """The data, the same at every call.

        Args:
            data_dir: where the user keeps data sets, each in the layout its field uses.

        Raises:
            DataError: if data are missing (a `MissingDataError` if nothing of them is there), damaged or fewer than
                asked for.
        """

    def checked(self, data_dir: Path | None = None) -> str:
        """What `load` says in `TaskData.source`, with what it raises for files that are missing or damaged.

        A task whose data take long to prepare overrides it and only reads them.
        """
        return self.load(data_dir).source

    def augmented(self, inputs: Any) -> Any:
        """The inputs of a training batch, as in `Split.batch`, as the network is to see them in this step.

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
        """Score of a whole split at once (it need not be a mean over points). Arguments as in `loss`.

        Of a task with validation points the larger score is the better one: the report chooses an epoch by it.
        """

    def further_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """What else to record of a whole split, by name. Arguments as in `loss`."""
        return {}

    def observed(self, network: nn.Module) -> nn.Module:
        """The network whose outputs the kernel differentiates: `network` itself, or one made around it.

        Its outputs are `[n, ...]`, `TaskData.outputs` numbers for each point.

        Raises:
            NetworkError: if the task needs more of a network than this one has. Known when a study is planned.
        """
        return network

    def parts(self) -> Mapping[str, slice]:
        """Parts of the outputs observed that have names, so that kernels can be taken of each; none by default."""
        return {}

    def observed_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every point, `[n]`, as a function of the outputs observed; for variables that need its gradient."""
        return self.loss(outputs, targets)
