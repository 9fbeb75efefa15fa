"""Mean kinetic energy of the outputs."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def kinetic_energy(motion: Float64[Tensor, "N O"]) -> float:
    """Mean over the points of E_i = ½ Σ_a (Θr)²_ia, r = ∂L/∂f, L a sum over points: half the outputs' squared speed."""
    return float(motion.square().sum()) / 2 / len(motion)


VARIABLE = Variable(
    "kinetic_energy", version=1, source="CV eq. 11 (exact form)", compute=kinetic_energy, treatments=("full",)
)
