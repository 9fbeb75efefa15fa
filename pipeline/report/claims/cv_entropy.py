"""What CV says of the entropy of one network over its training: compression, and none of it in fig. 3."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int64

from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import (
    MARGIN_REASON,
    NoNumberError,
    Number,
    Run,
    Series,
    common,
    each_group,
    each_network,
    entropy_margin,
    log_loss,
    measured,
)
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View

_CV_EPOCHS = 10  # CV §4: "at steps of between 10 and 1000 epochs"
_WITHIN_EPOCH = 5  # steps after 0 that a log grid must have there; of fewer CV's own grid has as good a look


def compression(view: View) -> list[Finding]:
    """CV §3.1: entropy drops "at the beginning of training, coinciding with the sharp drop in the loss".

    A run's number is S_0 less the least S within the first half of the fall of ln L (train), less the margin.
    """
    return each_network(
        view,
        "Entropy falls while the loss falls sharply",
        "S₀ − least S within the first half of the fall of ln L (train) − margin, nats",
        MARGIN_REASON,
        lambda view, run: drop(*_curves(view, run)),
    )


def no_compression(view: View) -> list[Finding]:
    """CV §4 of fig. 3: "the entropy of the models increases throughout training", with no compression phase."""
    reason = (
        "The larger standard error s over draws of the two: one difference in twenty lies beyond 2 s by chance. It is "
        "in each seed's number, so the mean has to be above 0."
    )
    return [
        *each_network(view, "Entropy ends above its start", "S_end − S₀ − 2 s, nats", reason, _rise),
        *each_network(view, "Entropy never falls below its start", "least S − S₀ + 2 s, nats", reason, _never_below),
    ]


def resolution(view: View) -> list[Finding]:
    """Whether CV's grid of steps hides a compression that a log grid of steps shows, in the very same runs.

    A seed's number is the share of its runs in which :func:`compression` is positive: read at all steps measured, then
    at steps of ten epochs or more only, as CV §4 did, then the difference of the two.
    """
    readings: list[tuple[str, str, Callable[[list[Run]], Number]]] = [
        ("Entropy compresses, read on a log grid of steps", "Share of runs", lambda runs: _share(view, runs, _all)),
        ("Entropy compresses, read on CV's grid", "Share of runs", lambda runs: _share(view, runs, cv_grid)),
        (
            "A log grid of steps shows a compression that CV's grid does not",
            "Share of runs on the log grid − on CV's",
            lambda runs: _apart(view, runs),
        ),
    ]
    reason = f"More than half of the runs; CV's grid: successive measured steps at least {_CV_EPOCHS} epochs apart."
    return [
        finding
        for statement, statistic, number in readings
        for finding in each_group({(): view.runs}, statement, statistic, reason, number, above=0.5)
    ]


def drop(entropy: Series, log_losses: Series) -> Number:
    """How far entropy falls within the first half of the fall of ln L, less the margin (nats).

    The window ends with the first step at which half of the fall has happened. Both series are of the same steps.
    """
    losses, steps = log_losses.values, entropy.steps
    if losses.min() >= losses[0]:
        raise NoNumberError("the loss on train never falls below its start")
    last = int(np.argmax(losses <= (losses[0] + losses.min()) / 2))
    least = int(np.argmin(entropy.values[: last + 1]))
    start, low = float(entropy.values[0]), float(entropy.values[least])
    margin = entropy_margin(entropy, 0, least)
    note = f"S {told(start)} → {told(low)} at step {told(int(steps[least]))}; window to step {told(int(steps[last]))}"
    return start - low - margin, f"{note}; margin {told(margin, 2)}"


def cv_grid(view: View, run: Run, steps: Int64[np.ndarray, " steps"]) -> Int64[np.ndarray, " chosen"]:
    """Of some steps 0 and those that follow one another at ten epochs or more."""
    apart, chosen = _CV_EPOCHS * run.epoch_steps, [0]
    for step in steps.tolist():
        if step - chosen[-1] >= apart:
            chosen.append(step)
    if len(chosen) < 2:
        raise NoNumberError(f"trained for less than {_CV_EPOCHS} epochs: CV's grid has no second step")
    return np.array(chosen)


def _all(view: View, run: Run, steps: Int64[np.ndarray, " steps"]) -> Int64[np.ndarray, " steps"]:
    inside = int(((steps > 0) & (steps <= run.epoch_steps)).sum())
    if inside < _WITHIN_EPOCH:
        raise NoNumberError(f"{inside} steps measured within the first epoch, a log grid has {_WITHIN_EPOCH} or more")
    return steps


_Grid = Callable[[View, Run, np.ndarray], np.ndarray]


def _compresses(view: View, run: Run, grid: _Grid) -> bool:
    entropy, losses = _curves(view, run)
    steps = grid(view, run, entropy.steps)
    return drop(entropy.at(steps), losses.at(steps))[0] > 0


def _share(view: View, runs: list[Run], grid: _Grid) -> Number:
    found = [_compresses(view, run, grid) for run in runs]
    return float(np.mean(found)), f"{sum(found)} of {len(found)} runs"


def _apart(view: View, runs: list[Run]) -> Number:
    fine, coarse = (_share(view, runs, grid) for grid in (_all, cv_grid))
    return fine[0] - coarse[0], f"log grid {fine[1]}; CV's grid {coarse[1]}"


def _curves(view: View, run: Run) -> tuple[Series, Series]:
    entropy, losses = common(measured(view, run, "entropy"), log_loss(view, run, "train"))
    return entropy, losses


def _rise(view: View, run: Run) -> Number:
    entropy = measured(view, run, "entropy")
    start, end = float(entropy.values[0]), float(entropy.values[-1])
    error = entropy.error(0, -1)
    return end - start - 2 * error, f"S {told(start)} → {told(end)}; s {told(error, 2)}"


def _never_below(view: View, run: Run) -> Number:
    entropy = measured(view, run, "entropy")
    place = int(np.argmin(entropy.values))
    start, least = float(entropy.values[0]), float(entropy.values[place])
    error = entropy.error(0, place)
    note = f"S {told(start)} → {told(least)} at step {told(int(entropy.steps[place]))}; s {told(error, 2)}"
    return least - start + 2 * error, note
