"""Velocity of the kernel per step."""

from tangentscope.probes.variables.formulas import ratio
from tangentscope.probes.variables.variable import Variable


def kernel_velocity(previous_distance: float, step: int, previous_step: int) -> float:
    """(1 − cos(Θ, Θ'))/(t − t'), Θ' the kernel measured before, at step t'; per step, ≥ 0; NaN where t = t'."""
    return ratio(previous_distance, step - previous_step)


VARIABLE = Variable("kernel_velocity", version=1, source="Fort et al. 2020", compute=kernel_velocity)
