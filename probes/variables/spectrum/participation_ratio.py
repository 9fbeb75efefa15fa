"""Participation ratio of the kernel's spectrum."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def participation_ratio(kernel: Float64[Tensor, "side side"]) -> float:
    """(Tr Θ)²/‖Θ‖²_F, in [1, side]; NaN for the zero kernel."""
    scale = kernel.abs().max()  # first, so that squares neither overflow nor vanish
    scaled = kernel / scale
    return float(scaled.diagonal().sum() ** 2 / (scaled**2).sum())


VARIABLE = Variable("participation_ratio", version=1, source="(Tr Θ)²/‖Θ‖²_F", compute=participation_ratio)
