"""What CV says of the trace over the training of one network: it follows the loss, dips first, and rises late."""

import numpy as np

from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import (
    NoNumberError,
    Number,
    Run,
    Series,
    common,
    each_network,
    log_loss,
    measured,
    spearman,
)
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View
from tangentscope.probes.trajectories.curves import MARGIN

_EARLY = 0.1  # of the steps: where the dip is to be
_LATE = 0.5  # of the steps: what comes after is late
_FEWEST = 3  # values that a slope takes


def trace_follows_loss(view: View) -> list[Finding]:
    """CV §3.1: "trace increases with training time to a very large value, often in step with the loss evolution".

    Two numbers a run: Spearman's correlation of Tr and −ln L on train over all steps measured; and the slope of ln Tr
    over the second half of the steps.
    """
    often = "“Often in step” is more than a tendency: above .8, of 1 for curves in the same order."
    late = "The paper says that it increases, not how fast: above 0. The second half of all steps is late."
    return [
        *each_network(view, "The trace follows the loss", "Spearman(Tr, −ln L on train)", often, follows, 0.8),
        *each_network(view, "The trace rises late", "Slope of ln Tr over the second half, per training", late, _slope),
    ]


def dip(view: View) -> list[Finding]:
    """CV §4.3 of fig. 3d and e: "a large dip at the beginning of training", then a rise above the start."""
    reason = (
        "Three standard errors s over draws leave one fall in some hundreds to chance (“by no means a simple "
        "fluctuation”); they are in each seed's number, so the mean has to be above 0."
    )
    return [
        *each_network(
            view,
            "The trace dips at the start",
            "(Tr₀ − least Tr in the first tenth of the steps − 3 s) / Tr₀",
            reason,
            _dip,
        ),
        *each_network(view, "The trace ends above its start", "ln(Tr_end / Tr₀)", "Above the start: above 0.", _rise),
    ]


def monotone(view: View) -> list[Finding]:
    """CV-notes: the "NTK trace increases monotonically during training"; the dips of fig. 3d and e contradict it.

    A run's number is the margin less the deepest fall of Tr below the highest value before it, over that value.
    """
    reason = (
        "A fall within 2 % of the highest value so far, or within three standard errors over draws, counts as none: "
        "the margin is in each seed's number, so the mean has to be above 0."
    )
    return each_network(
        view, "The trace never falls", "Margin − deepest fall of Tr, of the highest before", reason, _never_falls
    )


def follows(view: View, run: Run) -> Number:
    """Spearman(Tr, −ln L on train) over the steps that have both."""
    trace, losses = common(measured(view, run, "trace"), log_loss(view, run, "train"))
    return spearman(trace.values.tolist(), (-losses.values).tolist()), f"{len(trace.steps)} steps"


def _slope(view: View, run: Run) -> Number:
    trace = _positive(measured(view, run, "trace"))
    late = trace.steps >= _LATE * run.steps
    if late.sum() < _FEWEST:
        raise NoNumberError(f"{late.sum()} steps measured in the second half, a slope takes {_FEWEST}")
    slope = float(np.polyfit(trace.steps[late] / run.steps, np.log(trace.values[late]), 1)[0])
    ends = trace.values[late][[0, -1]].tolist()
    return slope, f"Tr {told(ends[0])} → {told(ends[1])} over {late.sum()} steps"


def _dip(view: View, run: Run) -> Number:
    trace = _positive(measured(view, run, "trace"))
    early = np.flatnonzero((trace.steps > 0) & (trace.steps <= _EARLY * run.steps))
    if not early.size:
        raise NoNumberError("no step was measured in the first tenth")
    place = int(early[np.argmin(trace.values[early])])
    start, least, error = float(trace.values[0]), float(trace.values[place]), trace.error(0, place)
    note = f"Tr {told(start)} → {told(least)} at step {told(int(trace.steps[place]))}; s {told(error, 2)}"
    return (start - least - 3 * error) / start, note


def _rise(view: View, run: Run) -> Number:
    trace = _positive(measured(view, run, "trace"))
    start, end = float(trace.values[0]), float(trace.values[-1])
    return float(np.log(end / start)), f"Tr {told(start)} → {told(end)}"


def _never_falls(view: View, run: Run) -> Number:
    trace = _positive(measured(view, run, "trace"))
    highest = np.maximum.accumulate(trace.values)
    peaks = np.array([int(np.argmax(trace.values[: place + 1])) for place in range(len(trace.values))])
    errors = np.maximum(trace.errors, trace.errors[peaks])
    left = np.maximum(MARGIN, 3 * errors / highest) - (highest - trace.values) / highest
    place = int(np.argmin(left))
    before, value = float(highest[place]), float(trace.values[place])
    at = f"steps {told(int(trace.steps[peaks[place]]))} and {told(int(trace.steps[place]))}"
    return float(left[place]), f"Tr {told(before)} → {told(value)} between {at}"


def _positive(trace: Series) -> Series:
    if (trace.values <= 0).any():
        raise NoNumberError("a trace is not positive")
    return trace
