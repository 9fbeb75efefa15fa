"""What BSC says of power laws: opposite dynamics behind like exponents of the loss (BSC §4.2, fig. 2)."""

import math
from dataclasses import dataclass

import numpy as np

from tangentscope.pipeline.report.claims.findings import Finding, Sample
from tangentscope.pipeline.report.claims.readings import of
from tangentscope.pipeline.report.derived import Scaling, scalings
from tangentscope.pipeline.report.derived.scaling import LOSS, RANK, RATE, START, TITLES
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View
from tangentscope.probes.trajectories.power_law import exponents
from tangentscope.probes.trajectories.resampling import without_each


@dataclass(frozen=True)
class _Margin:
    """What an exponent has to lie in, and why."""

    above: float
    at_most: float
    reason: str


_HALF = _Margin(-0.6, -0.4, "BSC say of both exponents that they are about .5: a tenth to either side.")
BY_WIDTH = {
    LOSS: _HALF,
    START: _Margin(0.1, math.inf, "It grows with width; BSC give no size: more than what counts as constant."),
    RATE: _Margin(-0.1, 0.1, "It is constant: over 4 … 4096 within a factor of two."),
    RANK: _Margin(0.0, math.inf, "It grows with width; BSC give a direction. Below the break, where there is one."),
}
BY_POINTS = {
    LOSS: _HALF,
    START: _Margin(-0.05, 0.05, "It is constant: the network at initialisation has seen no data."),
    RATE: _Margin(0.1, math.inf, "It grows with the data; BSC give no size: more than what counts as constant."),
    RANK: _Margin(-math.inf, 0.0, "It falls with the data; BSC give a direction."),
}


def model_exponents(view: View) -> list[Finding]:
    """BSC §4.2: with width the loss falls as a power, Tr Θ₀ and the effective rank grow, the adaptation rate stays."""
    return [
        _finding(one, name, how) for one in scalings(view) if one.ensemble.by_width for name, how in BY_WIDTH.items()
    ]


def data_exponents(view: View) -> list[Finding]:
    """BSC §4.2: with data the loss falls as a power, Tr Θ₀ stays, the adaptation rate grows, the rank falls."""
    found = [one for one in scalings(view) if not one.ensemble.by_width]
    return [_finding(one, name, how) for one in found for name, how in BY_POINTS.items()]


def _finding(scaling: Scaling, quantity: str, how: _Margin) -> Finding:
    ensemble, size = scaling.ensemble, "width" if scaling.ensemble.by_width else "data"
    title = TITLES[quantity]
    statement = of(f"Power law of the {title} in {size}", ensemble.others)
    statistic = f"Slope of ln {title} on ln {size}"
    law, broken = scaling.laws.get(quantity, "it is not measured"), scaling.breaks.get(quantity)
    if quantity == RANK and broken is not None and not isinstance(broken, str):
        note = f"break at {told(broken.place.value)}"
        samples = [Sample(name, broken.before.value, note) for name in ensemble.members]
        return Finding(statement, f"{statistic} below its break, all seeds", samples, how.reason,
                       how.above, how.at_most, together=broken.before)  # fmt: skip
    if isinstance(law, str):
        return Finding(statement, statistic, [Sample(name, None, law) for name in ensemble.members], how.reason,
                       how.above, how.at_most)  # fmt: skip
    fitted = f"fitted from {law.first:g} to {law.last:g}"
    if quantity == RATE:
        samples = [Sample(name, value, f"without it; {fitted}") for name, value in _rates(scaling).items()]
        statistic = f"{statistic}, all seeds"
        return Finding(statement, statistic, samples, how.reason, how.above, how.at_most, together=law.exponent)
    own = exponents(ensemble.sizes, scaling.values[quantity], (law.first, law.last))
    samples = [
        Sample(name, float(value), fitted) if np.isfinite(value) else Sample(name, None, "a size has no number")
        for name, value in zip(ensemble.members, own, strict=True)
    ]
    return Finding(statement, statistic, samples, how.reason, how.above, how.at_most)


def _rates(scaling: Scaling) -> dict[str, float | None]:
    """The exponent of the adaptation rate without each member in turn."""
    ensemble, law = scaling.ensemble, scaling.laws[RATE]
    if isinstance(law, str) or len(ensemble.members) < 2:
        return dict.fromkeys(ensemble.members)
    chosen = (ensemble.sizes >= law.first) & (ensemble.sizes <= law.last)
    x = np.log(ensemble.sizes[chosen])
    x -= x.mean()
    found = scaling.log_rate(without_each(len(ensemble.members)))[:, chosen] @ x / (x @ x)
    return {
        name: float(value) if np.isfinite(value) else None for name, value in zip(ensemble.members, found, strict=True)
    }
