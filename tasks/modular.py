"""Arithmetic modulo p from a part of its table, on which grokking was first reported (Power et al. 2022)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError

Operation = Literal["division", "addition", "subtraction", "multiplication"]
_RESULTS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "addition": lambda a, b, p: (a + b) % p,
    "subtraction": lambda a, b, p: (a - b) % p,
    "multiplication": lambda a, b, p: a * b % p,
    # b^(p − 2) is the inverse of b, by Fermat's little theorem.
    "division": lambda a, b, p: a * np.array([pow(number, p - 2, p) for number in range(p)])[b] % p,
}


class Modular(Task, frozen=True):
    """Complete the table of a ∘ b modulo p: cross-entropy on a logit for each of p results, accuracy as the score.

    Each pair (a, b) stands in one split alone; b is never 0 in division. Inputs are sentences of four words, a ∘ b =,
    for networks of codes: int64 `[n, 4, 1]`, numbers from 1 to p for 0 to p − 1. The result is the label of the last
    word, and the kernel is of its logits. As `numbers`, inputs are float32 `[n, 2 p]`: a and b one-hot, side by side.
    Targets are int64 `[n]`.

    Args:
        p: modulus; for division a prime.
        operation: ∘.
        share: share of the table to learn from; the rest are test points.
        inputs: `codes` for a transformer, an LSTM, …; `numbers` for a dense net.
        data_seed: which pairs to learn from.
    """

    name: Literal["modular"] = "modular"
    p: int = Field(default=97, ge=2, le=1000)
    operation: Operation = "division"
    share: float = Field(default=0.5, gt=0)
    inputs: Literal["codes", "numbers"] = "codes"
    data_seed: int = Field(default=0, ge=0, lt=2**32)

    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "accuracy"
    observes: ClassVar[str] = "the logits of the result"

    @model_validator(mode="after")
    def _numbers_can_be_divided(self) -> "Modular":
        if self.operation == "division" and (
            divisors := [k for k in range(2, int(self.p**0.5) + 1) if self.p % k == 0]
        ):
            raise ValueError(f"division needs a prime p, got {self.p}, which {divisors[0]} divides: choose another p")
        return self

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The table, split at random; nothing is read from `data_dir`.

        Raises:
            DataError: if `share` leaves a split without pairs.
        """
        divisors = np.arange(1 if self.operation == "division" else 0, self.p)
        a, b = (side.ravel() for side in np.meshgrid(np.arange(self.p), divisors, indexing="ij"))
        count = round(self.share * len(a))
        if not 0 < count < len(a):
            raise DataError(
                f"task.share {self.share:g} takes {count} of the table's {len(a)} pairs to learn from, expected some "
                "but not all: choose another share"
            )
        # Only RandomState promises the same draws in every numpy release.
        order = np.random.RandomState(self.data_seed).permutation(len(a))
        targets = torch.from_numpy(_RESULTS[self.operation](a, b, self.p))
        whole = Split(self._inputs(torch.from_numpy(a), torch.from_numpy(b)), targets)
        train, test = (whole.take(torch.from_numpy(part)) for part in (order[:count], order[count:]))
        return TaskData(
            train,
            test,
            input_shape=tuple(whole.inputs[0].shape),  # pyright: ignore
            outputs=self.p,
            source=f"{self.operation} modulo {self.p}, {count} train and {len(a) - count} test pairs "
            f"(data_seed {self.data_seed})",
            codes={"words": (self.p + 3,)} if self.inputs == "codes" else {},
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of every pair, `[n]`, in nats; of outputs `[n, 4, p]` for sentences the last word counts."""
        return F.cross_entropy(_last(outputs), targets, reduction="none")

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Share of pairs whose result has the largest logit."""
        return (_last(outputs).argmax(1) == targets).double().mean().item()

    def observed(self, network: nn.Module) -> nn.Module:
        """Of sentences the logits at the last word, `[n, p]`."""
        return _LastWord(network) if self.inputs == "codes" else network

    def _inputs(self, a: Tensor, b: Tensor) -> Tensor:
        if self.inputs == "numbers":
            return torch.cat([F.one_hot(a, self.p), F.one_hot(b, self.p)], 1).float()
        operation, equals = torch.full_like(a, self.p + 1), torch.full_like(a, self.p + 2)
        return torch.stack([a + 1, operation, b + 1, equals], 1)[..., None]


def _last(outputs: Tensor) -> Tensor:
    return outputs[:, -1] if outputs.dim() == 3 else outputs


class _LastWord(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, sentences: Any) -> Tensor:
        return self.network(sentences)[:, -1]
