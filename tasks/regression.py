"""What tasks share whose targets are numbers: half the squared error, and R² as the score."""

from typing import ClassVar

from torch import Tensor

from tangentscope.tasks.base import Task


class Regression(Task, frozen=True):
    """A task with targets `[n, outputs]`."""

    score_name: ClassVar[str] = "r2"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the squared error, `[n]`, of outputs and targets `[n, outputs]`: its gradient is the residual itself."""
        return 0.5 * (outputs - targets).square().sum(1)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """R² over the split, at most 1: one minus the squared error over that of the split's own means.

        NaN or −∞ where targets do not vary.
        """
        errors = (outputs - targets).double().square().sum()
        return (1 - errors / (targets - targets.double().mean(0)).square().sum()).item()
