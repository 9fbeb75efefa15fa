"""A variable: a number or a profile computed from a kernel, with the version and the source of its definition."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Variable:
    """One collective variable.

    name: key in ``VARIABLES`` and in results.
    version: raised whenever the same kernel would give another number, so that stored values stay comparable.
    source: label of the definition, such as ``CV eq. 9``.
    compute: pure function whose argument names say what it needs (see ``probes.variables.resolve``: ``NEEDS`` and
        ``GIVENS``). NaN in gives NaN out, never an exception.
    treatments: the output treatments of kernels for which it is defined. With one output per point all are the same.
    kind: a number, or a profile: a float64 array [length], whose length depends on the kernel's shape alone.
    """

    name: str
    version: int
    source: str
    compute: Callable[..., float | np.ndarray]
    treatments: tuple[str, ...] = ("full", "traced", "summed")
    kind: Literal["number", "profile"] = "number"

    @property
    def needs(self) -> tuple[str, ...]:
        """What ``compute`` asks for, by argument name."""
        return tuple(inspect.signature(self.compute).parameters)
