"""Velocity of the kernel per logarithm of the step."""

import math

from tangentscope.probes.variables.formulas import ratio
from tangentscope.probes.variables.variable import Variable


def kernel_velocity_log(previous_distance: float, step: int, previous_step: int) -> float:
    """(1 − cos(Θ, Θ'))/(ln t − ln t'), Θ' the kernel measured before, at step t'; ≥ 0; NaN where t' = 0 or t = t'."""
    if previous_step <= 0 or step <= 0:
        return math.nan
    return ratio(previous_distance, math.log(step) - math.log(previous_step))


VARIABLE = Variable("kernel_velocity_log", version=1, source="Fort et al. 2020, per Δln t", compute=kernel_velocity_log)
