"""What BSC says of how kernels change during training (BSC §4.1, App. E, figs 1, 4 to 8)."""

from collections.abc import Callable

import numpy as np

from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import (
    NoNumberError,
    Number,
    Run,
    common,
    each_group,
    each_network,
    each_run,
    log_loss,
    loss,
    measured,
    of,
    sample,
    scans,
    spearman,
)
from tangentscope.pipeline.report.derived import Scaling, scalings
from tangentscope.pipeline.report.derived.scaling import RANK
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View

REPLACED = "task.replaced"
_RISE = 0.02  # in ln: of less, effective ranks of two draws of points differ as much
_LINEAR = 0.95
_ORDER = "A clear order, not a tendency: .5 of 1 for networks in perfect order."


def dynamics(view: View) -> list[Finding]:
    """BSC §4.1: the trace rises; by width it is linear in ln L after an initial phase; the rank is ordered by size."""
    found: list[Finding] = []
    for scaling in scalings(view):
        rise = "BSC give a direction: the mean over sizes of the logarithm has to be above 0."
        found.append(
            _of_members(scaling, "The trace rises", "ln(Tr at the least test loss / Tr₀)", rise, 0.0, _rise(view))
        )
        if scaling.ensemble.by_width:
            reason = f"A straight line: R² above {_LINEAR:g}, from half of the fall of ln L to the least test loss."
            statement, statistic = "The trace is linear in ln L after an initial phase", "R² of Tr Θ on ln L (train)"
            found.append(_of_members(scaling, statement, statistic, reason, _LINEAR, _straight(view)))
        found.append(_ordered(scaling))
    return found


def noise(view: View) -> list[Finding]:
    """BSC App. B.2, fig. 4: the effective rank falls, then rises, the more the more distinct samples there are."""
    groups = scans(view, REPLACED, least=3)
    interior = "Falls and rises of more than 2 % of the rank, with every sample distinct."
    least = {parts: [run for run in runs if run.varied[REPLACED] == 0] for parts, runs in groups.items()}
    return [
        *each_group(
            {parts: runs for parts, runs in least.items() if runs},
            "The effective rank falls, then rises",
            "min(ln(rank₀/least rank), ln(rank_end/least rank)) − .02",
            interior,
            lambda runs: _interior(view, runs[0]),
        ),
        *each_group(
            groups,
            "The effective rank rises the more, the more samples are distinct",
            "Spearman(1 − replaced share, ln(rank_end/least rank))",
            _ORDER,
            lambda runs: _by_distinct(view, runs),
            above=0.5,
        ),
    ]


def alignment(view: View) -> list[Finding]:
    """BSC App. E.3, fig. 8: eigenvectors turn most at first and less and less; label alignment barely changes."""
    near = "Near its maximum: four fifths of the largest value of the run."
    barely = "Barely: by a tenth of the largest value that there is, 1, at most."
    return [
        *each_network(view, "Misalignment starts near its maximum", "First value / largest", near, _starts, above=0.8),
        *each_network(view, "Misalignment decays", "First value − last", "BSC give a direction: above 0.", _decays),
        *each_run(
            view.networks,
            "Label alignment barely changes",
            "|A_end − A₀|",
            barely,
            lambda run: _alignment(view, run),
            at_most=0.1,
        ),
    ]


def _of_members(
    scaling: Scaling, statement: str, statistic: str, reason: str, above: float, number: Callable[[list[Run]], Number]
) -> Finding:
    """A number a member, of its runs of all sizes."""
    ensemble = scaling.ensemble
    samples = [
        sample(name, lambda place=place: number([runs[place] for runs in ensemble.runs]))
        for place, name in enumerate(ensemble.members)
    ]
    return Finding(of(statement, ensemble.others), f"{statistic}, mean over sizes", samples, reason, above=above)


def _rise(view: View) -> Callable[[list[Run]], Number]:
    def number(runs: list[Run]) -> Number:
        rises = []
        for run in runs:
            trace, losses = common(measured(view, run, "trace"), loss(view, run, "test"))
            rises.append(float(np.log(trace.values[np.argmin(losses.values)] / trace.values[0])))
        return float(np.mean(rises)), f"from {told(min(rises))} to {told(max(rises))}"

    return number


def _straight(view: View) -> Callable[[list[Run]], Number]:
    def number(runs: list[Run]) -> Number:
        found = [_determination(view, run) for run in runs]
        return float(np.mean(found)), f"from {told(min(found))} to {told(max(found))}"

    return number


def _determination(view: View, run: Run) -> float:
    trace, logs, test = common(measured(view, run, "trace"), log_loss(view, run, "train"), loss(view, run, "test"))
    best = int(np.argmin(test.values))
    half = (logs.values[0] + logs.values[best]) / 2
    chosen = np.flatnonzero(logs.values[: best + 1] <= half)
    if len(chosen) < 4:
        raise NoNumberError(f"{len(chosen)} measured steps after the initial phase, a line takes 4")
    return float(np.corrcoef(trace.values[chosen], logs.values[chosen])[0, 1] ** 2)


def _ordered(scaling: Scaling) -> Finding:
    ensemble, up = scaling.ensemble, scaling.ensemble.by_width
    ranks = scaling.values.get(RANK)

    def number(place: int) -> Number:
        if ranks is None or not np.isfinite(ranks[place]).all():
            raise NoNumberError("a size has no effective rank at the least test loss")
        order = spearman(ensemble.sizes.tolist(), ranks[place].tolist())
        return order if up else -order, f"from {told(ranks[place].min())} to {told(ranks[place].max())}"

    way = "up with width" if up else "down with data"
    samples = [sample(name, lambda place=place: number(place)) for place, name in enumerate(ensemble.members)]
    statement = of(f"The effective rank is ordered {way}", ensemble.others)
    sign = "" if up else "−"
    return Finding(statement, f"{sign}Spearman(size, rank at the least test loss)", samples, _ORDER, above=0.5)


def _interior(view: View, run: Run) -> Number:
    first, least, last = _ranks(view, run)
    note = f"rank {told(first)} → {told(least)} → {told(last)}"
    return float(min(np.log(first / least), np.log(last / least))) - _RISE, note


def _by_distinct(view: View, runs: list[Run]) -> Number:
    shares, rises = [], []
    for run in runs:
        _, least, last = _ranks(view, run)
        shares.append(1 - run.varied[REPLACED])
        rises.append(float(np.log(last / least)))
    return spearman(shares, rises), f"rises from {told(min(rises))} to {told(max(rises))}"


def _ranks(view: View, run: Run) -> tuple[float, float, float]:
    values = measured(view, run, "effective_rank_cosine").values
    return float(values[0]), float(values.min()), float(values[-1])


def _turns(view: View, run: Run) -> np.ndarray:
    values = measured(view, run, "misalignment_subspace_step", first=1).values
    if values.size < 2 or values.max() <= 0:
        raise NoNumberError("fewer than two steps with a misalignment, or none that is positive")
    return values


def _starts(view: View, run: Run) -> Number:
    values = _turns(view, run)
    return float(values[0] / values.max()), f"{told(values[0])} of {told(values.max())}"


def _decays(view: View, run: Run) -> Number:
    values = _turns(view, run)
    return float(values[0] - values[-1]), f"{told(values[0])} → {told(values[-1])}"


def _alignment(view: View, run: Run) -> Number:
    values = measured(view, run, "label_alignment").values
    return float(abs(values[-1] - values[0])), f"{told(values[0])} → {told(values[-1])}"
