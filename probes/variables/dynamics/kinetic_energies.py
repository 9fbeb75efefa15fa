"""Kinetic energies of the outputs."""

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def kinetic_energies(motion: Float64[Tensor, "N O"]) -> Float64[np.ndarray, " N"]:
    """E_i = ½ Σ_a (Θr)²_ia by point, r = ∂L/∂f, L a sum over points."""
    return (motion.square().sum(1) / 2).cpu().numpy()


VARIABLE = Variable(
    "kinetic_energies",
    version=1,
    source="CV eq. 11 (exact form)",
    compute=kinetic_energies,
    treatments=("full",),
    kind="profile",
)
