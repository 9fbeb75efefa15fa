"""Power laws of what networks come to, in their width or in the number of points they learn from (BSC §4, §5).

Figures, claims and the table of derived quantities all read :func:`scalings`, so that there is one fit of each kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float64

from tangentscope.pipeline.report.derived.ensembles import Ensemble, LogMeans, Quantities, curves, ensembles, log_rates
from tangentscope.pipeline.report.derived.rows import Row
from tangentscope.pipeline.report.view import Kernel, View
from tangentscope.probes.trajectories.break_point import BrokenPowerLaw, break_point, break_ratio
from tangentscope.probes.trajectories.power_law import PowerLaw, fitted, power_law
from tangentscope.probes.trajectories.resampling import Estimate, NoFitError, jackknife, without_each

LOSS, START, RATIO = "test_loss_least", "trace_initial", "trace_ratio"
RANK = "effective_rank_cosine_at_least_test_loss"
RATE = "adaptation_rate_at_least_test_loss"
TITLES = {
    LOSS: "least test loss",
    START: "Tr Θ₀",
    RATE: "adaptation rate",
    RANK: "effective rank",
    RATIO: "trace ratio",
}
BROKEN = (RANK, RATIO)  # that give way to another power law as networks get wider (BSC §5)
FITTED = ("exponent_of_", "break_of_", "log2_ratio_of_breaks", "runs_out_of_time_")  # how rows of fits are called
IN_TIME = (400, 1000)  # epochs between which BSC App. D.1 wants the least test loss

_Fit = TypeVar("_Fit")


@dataclass(frozen=True)
class Scaling:
    """An ensemble of sizes, and what was fitted to it.

    Attributes:
        ensemble: Sizes, members and runs.
        values: By quantity a number a run; of the adaptation rate one of all members together, in a single row.
        spread: Of the adaptation rate the standard error by jackknife, a number a size.
        log_rate: Its logarithm, of rows of members' places.
        laws: By quantity the power law, or why there is none.
        breaks: By quantity the broken power law, or why there is none.
        ratio: log₂ of the width at which the rank breaks over that of the trace ratio, or why there is none.
        at_best: Epochs of the least test loss, a run each.
    """

    ensemble: Ensemble
    values: Quantities
    spread: Float64[np.ndarray, " sizes"]
    log_rate: LogMeans
    laws: dict[str, PowerLaw | str]
    breaks: dict[str, BrokenPowerLaw | str]
    ratio: Estimate | str
    at_best: Float64[np.ndarray, "members sizes"]

    @property
    def out(self) -> Bool[np.ndarray, "members sizes"]:
        """The runs whose least test loss lies outside of BSC's epochs, or at their end, after which it may yet fall."""
        first, last = IN_TIME
        return np.isfinite(self.at_best) & ~((self.at_best >= first) & (self.at_best < last))

    def out_of_time(self) -> list[str]:
        """The sizes with such runs, and of how many."""
        of, sizes = len(self.ensemble.members), self.ensemble.sizes
        return [f"{size:g} ({out.sum()} of {of})" for size, out in zip(sizes, self.out.T, strict=True) if out.any()]


def scalings(view: View, rows: Sequence[Row], split: str, kernel: Kernel) -> list[Scaling]:
    """One for each ensemble of a study that varies a size."""
    return [_scaling(view, ensemble, rows, split, kernel) for ensemble in ensembles(view) if ensemble.members]


def _scaling(view: View, ensemble: Ensemble, rows: Sequence[Row], split: str, kernel: Kernel) -> Scaling:
    sizes, seeds = ensemble.sizes, len(ensemble.members)
    values = {name: ensemble.values(rows, name) for name in (LOSS, START, RANK, RATIO)}
    values = {name: found for name, found in values.items() if np.isfinite(found).any()}
    laws = {name: _or_why(power_law, sizes, found) for name, found in values.items()}
    log_rate = log_rates([curves(view, runs, split, kernel) for runs in ensemble.runs])
    rates = np.exp(log_rate(np.arange(seeds)[None]))
    if np.isfinite(rates).any():
        values[RATE], laws[RATE] = rates, _or_why(fitted, sizes, log_rate, seeds)
    breaks: dict[str, BrokenPowerLaw | str] = {}
    ratio: Estimate | str = "there are not both breaks"
    if ensemble.by_width:
        breaks = {name: _or_why(break_point, sizes, values[name]) for name in BROKEN if name in values}
        if [*map(type, breaks.values())] == [BrokenPowerLaw] * len(BROKEN):
            ratio = _or_why(break_ratio, sizes, values[RANK], values[RATIO])
    at_best = ensemble.values([replace(row, value=row.epoch) for row in rows], LOSS)
    spread = rates[0] * (jackknife(log_rate(without_each(seeds))) if seeds > 1 else np.nan)
    return Scaling(ensemble, values, spread, log_rate, laws, breaks, ratio, at_best)


def _or_why(fit: Callable[..., _Fit], *given: Any) -> _Fit | str:
    try:
        return fit(*given)
    except NoFitError as reason:
        return str(reason)


def of_scaling(scaling: Scaling) -> list[Row]:
    """The rows of the table ``derived``: exponents, breaks, and which runs had their least test loss out of time."""
    ensemble = scaling.ensemble
    about = Row("", ensemble.label, seeds=len(ensemble.members))
    field = ensemble.field.rpartition(".")[2]
    found = [
        _row(about, f"exponent_of_{quantity}_by_{field}", law if isinstance(law, str) else law.exponent, _range(law))
        for quantity, law in scaling.laws.items()
    ]
    for quantity, broken in scaling.breaks.items():
        name, where = f"break_of_{quantity}_by_{field}", f"exponent_of_{quantity}_by_{field}_"
        if isinstance(broken, str):
            found.append(_row(about, name, broken))
            continue
        found.append(_row(about, name, broken.place, _left_out(broken.left_out)))
        found.append(_row(about, f"{where}below_break", broken.before))
        found.append(_row(about, f"{where}above_break", broken.after))
    if scaling.breaks:
        found.append(_row(about, "log2_ratio_of_breaks", scaling.ratio))
    if late := scaling.out_of_time():
        told = f"least test loss outside of epochs {IN_TIME[0]} to {IN_TIME[1]} at {field} {', '.join(late)}"
        found.append(replace(about, quantity=f"runs_out_of_time_by_{field}", value=float(scaling.out.sum()), text=told))
    return found


def _row(about: Row, name: str, found: Estimate | str, text: str = "") -> Row:
    if isinstance(found, str):
        return replace(about, quantity=name, text=found)
    return replace(about, quantity=name, value=found.value, low=found.low, high=found.high, text=text)


def _range(law: PowerLaw | str) -> str:
    if isinstance(law, str):
        return law
    return "; ".join(filter(None, [f"fitted from {law.first:g} to {law.last:g}", _left_out(law.left_out)]))


def _left_out(sizes: Sequence[float]) -> str:
    return f"without {', '.join(f'{size:g}' for size in sizes)}, where most have no positive number" if sizes else ""
