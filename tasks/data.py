"""Data in memory: the splits of a task, and what a network must know of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tangentscope.tasks.graphs import Graphs


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
