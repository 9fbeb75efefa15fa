"""Where in the spectrum the residual lies."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.formulas import ratio
from tangentscope.probes.variables.variable import Variable


def spectral_position(
    loss_rate: float, kernel: Float64[Tensor, "side side"], residual: Float64[Tensor, "N O"]
) -> float:
    """rᵀΘr/(‖r‖² Tr Θ), in [0, λ_1/Tr Θ]; NaN for r = 0 and for the zero kernel."""
    return ratio(ratio(loss_rate, float(residual.square().sum())), float(kernel.diagonal().sum()))


VARIABLE = Variable(
    "spectral_position", version=1, source="Nikolaou 2026", compute=spectral_position, treatments=("full",)
)
