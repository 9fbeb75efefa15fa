"""Claims of Nam, chapter 6: test accuracy comes long after train accuracy, unless scales are changed, and κ falls."""

import numpy as np

from tangentscope.pipeline.report.claims.claim import Claim, Needs
from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import NoNumberError, Number, Run, measured, of, sample
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.summaries import state
from tangentscope.pipeline.report.view import View, column
from tangentscope.probes.trajectories.curves import learning_time
from tangentscope.probes.variables.features.kappa_cka import MINIMUM_FEATURE

_LATE = 5.0
_SOON = 2.0
_GENERALISED = 0.5  # of the last accuracy on train, by that on test
_RATIO = "t_test/t_train, steps to 95 % of the last accuracy"


def grokking_delay(view: View) -> list[Finding]:
    """Nam §6.4.2–6.4.3: of the study's first network, as it is by default, generalisation is delayed."""
    parts, runs = next(iter(view.networks.items()))
    return [
        Finding(
            of("Test accuracy comes long after train accuracy", parts),
            _RATIO,
            [sample(run.name, lambda run=run: _delay(view, run)) for run in runs],
            "Five times as many steps: on a logarithmic axis, as grokking is drawn, two separate curves.",
            above=_LATE,
        )
    ]


def grokking_cured(view: View) -> list[Finding]:
    """Nam Table 6.1: of all other networks, each with one scale changed, it is not."""
    return [
        Finding(
            of("The rescaling removes the delay", parts),
            _RATIO,
            [sample(run.name, lambda run=run: _delay(view, run)) for run in runs],
            "At most twice as many steps: curves that rise together.",
            at_most=_SOON,
        )
        for parts, runs in list(view.networks.items())[1:]
    ]


def _delay(view: View, run: Run) -> Number:
    train, test = learning_times(view, run)
    return test / train, f"train after {told(train)} steps, test after {told(test)}"


def learning_times(view: View, run: Run) -> tuple[float, float]:
    """Steps after which the accuracy on train and on test has come to 95 % of its last value.

    Raises:
        NoNumberError: The run has not finished, has learned nothing, or has not generalised by the end: the last
            accuracy on test, by which time is told, is then still on its way.
    """
    if (how := state(view, run.id)) != "finished":
        raise NoNumberError(how)
    found, ends = [], []
    for split in ("train", "test"):
        curve = view.curve(run, split, "score", None)
        steps, values = column(curve, "step"), column(curve, "value")
        if not steps.size or not np.isfinite(values).all():
            raise NoNumberError(f"{view.score} on {split} is not known at every step")
        time = learning_time(steps, values)
        # What chance has at the start is not learned.
        if np.isnan(time) or time <= steps[0]:
            raise NoNumberError(f"nothing was learned on {split}")
        found.append(time)
        ends.append(float(values[-1]))
    train, test = found
    if ends[1] < _GENERALISED * ends[0]:
        raise NoNumberError(f"has not generalised yet: {view.score} {told(ends[1])} on test, {told(ends[0])} on train")
    return train, test


def grokking_kappa(view: View) -> list[Finding]:
    """Nam fig. 6.4b: extended features before generalisation, minimum features after."""
    parts, runs = next(iter(view.networks.items()))
    before = Finding(
        of("Features are extended before the network generalises", parts),
        "κ when train accuracy is there",
        [sample(run.name, lambda run=run: _kappa(view, run, True)) for run in runs],
        "Def. 1–2 of the thesis: extended above 0.1.",
        above=MINIMUM_FEATURE,
    )
    after = Finding(
        of("Features are minimal after it has", parts),
        "κ at the end",
        [sample(run.name, lambda run=run: _kappa(view, run, False)) for run in runs],
        "Def. 1–2 of the thesis: minimal below 0.1.",
        at_most=MINIMUM_FEATURE,
    )
    return [before, after]


def _kappa(view: View, run: Run, before: bool) -> Number:
    kappa = measured(view, run, "kappa_cka")
    train, test = learning_times(view, run)
    if not before:
        return float(kappa.values[-1]), f"at step {told(int(kappa.steps[-1]))}"
    between = (kappa.steps >= train) & (kappa.steps < test)
    if not between.any():
        raise NoNumberError("κ is not measured between the two accuracies")
    place = int(np.flatnonzero(between)[0])
    return float(kappa.values[place]), f"at step {told(int(kappa.steps[place]))}"


CLAIMS: dict[str, Claim] = {
    "grokking_delay": Claim(grokking_delay, "Nam §6.4.2, fig. 6.4a", "grokking", Needs()),
    "grokking_cured": Claim(grokking_cured, "Nam Table 6.1", "grokking", Needs()),
    "grokking_kappa": Claim(grokking_kappa, "Nam fig. 6.4b", "grokking", Needs(variables=("kappa_cka",))),
}
