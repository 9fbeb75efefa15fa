"""What BSC says of the width at which feature learning ends (BSC §5, fig. 3)."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from tangentscope.pipeline.report.claims.findings import Finding, Sample
from tangentscope.pipeline.report.claims.readings import of
from tangentscope.pipeline.report.derived import Scaling, scalings
from tangentscope.pipeline.report.derived.scaling import BROKEN, RATIO, TITLES
from tangentscope.pipeline.report.view import View
from tangentscope.probes.trajectories.break_point import BrokenPowerLaw, break_places
from tangentscope.probes.trajectories.resampling import Estimate, difference, without_each

_PLACES = {"cifar10": (500.0, 2000.0)}  # BSC §5: about 1000
_PLACE = (250.0, 1000.0)  # about 500
_SAME = 0.1
_DEEP = 4


def transition(view: View) -> list[Finding]:
    """BSC §5: the effective rank saturates where the trace ratio begins to decline, near width 500, CIFAR-10 1000.

    Of four layers or more the two widths agree; of three the rank's is the smaller (§5.1). Segmented fits of means over
    seeds, so that a number is of all seeds together.
    """
    found: list[Finding] = []
    for scaling in (one for one in scalings(view) if one.breaks):
        deep = scaling.ensemble.runs[0][0].config["model"].get("depth", _DEEP) >= _DEEP
        found.append(_ratio(scaling, deep))
        low, high = _PLACES.get(_task(scaling), _PLACE)
        reason = f"BSC read it off their figure: within a factor of two, {low:g} to {high:g}."
        for quantity in BROKEN:
            broken = scaling.breaks.get(quantity, "it is not measured")
            place = broken.place if isinstance(broken, BrokenPowerLaw) else broken
            if (widest := float(max(scaling.ensemble.sizes))) < high:  # a lesser turn would hide the one that is meant
                place = f"sizes end at {widest:g}, and the turn may be at up to {high:g}"
            statement = of(f"Width at which the {TITLES[quantity]} turns", scaling.ensemble.others)
            found.append(_together(scaling, statement, "Break point, units", reason, place, (low, high), (quantity,)))
    return found


def transition_depth(view: View) -> list[Finding]:
    """BSC §5: the exponent of the declining trace ratio is shared by data sets and set by depth."""
    known = [one for one in scalings(view) if isinstance(one.breaks.get(RATIO), BrokenPowerLaw)]
    found: list[Finding] = []
    for one, other in combinations(known, 2):
        alike = _depth(one) == _depth(other)
        if alike == (_task(one) == _task(other)):
            continue  # of another data set, or of another depth, and not of both
        apart = difference(_decline(one), _decline(other))
        names = f"{one.ensemble.label} against {other.ensemble.label}"
        statement = f"The decline of the trace ratio is {'shared by data sets' if alike else 'set by depth'} ({names})"
        bounds, reason = (-_SAME, _SAME), f"Shared: exponents within {_SAME:g} of each other."
        if not alike:
            apart, bounds = _size(apart), (_SAME, np.inf)
            reason = f"BSC give two exponents and no sign: they are more than {_SAME:g} apart."
        statistic = "Difference of the exponents above the break" + ("" if alike else ", without sign")
        found.append(_together(one, statement, statistic, reason, apart, bounds, ()))
    return found


def _ratio(scaling: Scaling, deep: bool) -> Finding:
    statement = "Rank and trace ratio turn at the same width" if deep else "The rank turns at a smaller width"
    bounds = (-1.0, 1.0) if deep else (-np.inf, 0.0)
    reason = (
        "Within a factor of two." if deep else "BSC §5.1 give a direction, of CIFAR-10 and, less so, of the others."
    )
    statistic = "log₂(width at which the rank turns / the trace ratio's)"
    statement = of(statement, scaling.ensemble.others)
    return _together(scaling, statement, statistic, reason, scaling.ratio, bounds, BROKEN)


def _together(
    scaling: Scaling,
    statement: str,
    statistic: str,
    reason: str,
    number: Estimate | str,
    bounds: tuple[float, float],
    quantities: Sequence[str],
) -> Finding:
    """A finding of a number that seeds have together; a sample is the break without that seed, or their ratio."""
    members = scaling.ensemble.members
    if isinstance(number, str):
        return Finding(statement, statistic, [Sample(name, None, number) for name in members], reason, *bounds)
    without = np.full(len(members), number.value)
    if quantities and len(members) > 1:
        draws = without_each(len(members))
        places = [break_places(scaling.ensemble.sizes, scaling.values[name], draws) for name in quantities]
        without = places[0] if len(places) == 1 else np.log2(places[0] / places[1])
    note = "without it" if quantities else "of all seeds"
    samples = [
        Sample(name, float(value), note) if np.isfinite(value) else Sample(name, None, f"no break {note}")
        for name, value in zip(members, without, strict=True)
    ]
    return Finding(statement, f"{statistic}, all seeds", samples, reason, *bounds, together=number)


def _decline(scaling: Scaling) -> Estimate:
    broken = scaling.breaks[RATIO]
    return broken.after if isinstance(broken, BrokenPowerLaw) else Estimate(np.nan)


def _size(signed: Estimate) -> Estimate:
    ends = sorted((abs(signed.low), abs(signed.high)))
    low = 0.0 if signed.low < 0 < signed.high else ends[0]
    return Estimate(abs(signed.value), low, ends[1])


def _task(scaling: Scaling) -> str:
    return str(scaling.ensemble.runs[0][0].config["task"]["name"])


def _depth(scaling: Scaling) -> int:
    return int(scaling.ensemble.runs[0][0].config["model"].get("depth", 0))
