"""What closed forms need of a task: its target as a linear map, and the second moments of its inputs."""

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class HasMoments(Protocol):
    """A task whose target is linear in inputs that are uncorrelated."""

    @property
    def exact_moments(self) -> bool:
        """Whether the points to learn from have these moments exactly, and no correlations at all."""
        ...

    def target(self) -> np.ndarray:
        """S of f*(x) = xᵀS, as solvable models take it."""
        ...

    def moments(self) -> np.ndarray:
        """E[x_i²] over the points to learn from, as solvable models take them."""
        ...
