"""Whether CV's patterns persist under other optimisers, initialisations, batch sizes and schedules (CV-notes)."""

from collections.abc import Callable

from tangentscope.pipeline.report.claims.cv_entropy import drop
from tangentscope.pipeline.report.claims.cv_trace import follows
from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import (
    MARGIN_REASON,
    NoNumberError,
    Number,
    Run,
    common,
    each_group,
    entropy_margin,
    log_loss,
    measured,
)
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View

CHANGES = ("optimiser", "model.init", "train.batch_size")
"""The beginnings of fields under whose change patterns are to persist."""


def persistence(view: View) -> list[Finding]:
    """CV-notes, next checks 1 and 3: do the patterns persist?

    A pattern persists if the training that shows it least still shows it: a seed's number is the least over its
    trainings.
    """
    if not any(field.startswith(CHANGES) for field in view.varied):
        return []
    patterns: list[tuple[str, str, str, Callable[[Run], Number], float]] = [
        ("Compression persists", "S₀ − least S in the fall of ln L − margin, nats", MARGIN_REASON, _drop(view), 0.0),
        ("Formation persists", "S_end − least S − margin, nats", MARGIN_REASON, _rebound(view), 0.0),
        (
            "The trace follows the loss throughout",
            "Spearman(Tr, −ln L on train)",
            "As for one training: above .8.",
            lambda run: follows(view, run),
            0.8,
        ),
    ]
    return [
        finding
        for statement, statistic, reason, number, above in patterns
        for finding in each_group(
            {(): view.runs},
            statement,
            f"Least over trainings of: {statistic}",
            reason,
            lambda runs, number=number: _least(runs, number),
            above=above,
        )
    ]


def _least(runs: list[Run], number: Callable[[Run], Number]) -> Number:
    found: dict[str, Number] = {}
    for run in runs:
        try:
            found[run.name] = number(run)
        except NoNumberError as reason:  # the least is open then
            raise NoNumberError(f"{run.name}: {reason}") from None
    worst = min(found, key=lambda name: found[name][0])
    value, note = found[worst]
    above = sum(other > value for other, _ in found.values())
    return value, f"least of {len(found)}: {worst}: {note}; {above} others are above {told(value, 3)}"


def _drop(view: View) -> Callable[[Run], Number]:
    def number(run: Run) -> Number:
        entropy, losses = common(measured(view, run, "entropy"), log_loss(view, run, "train"))
        return drop(entropy, losses)

    return number


def _rebound(view: View) -> Callable[[Run], Number]:
    def number(run: Run) -> Number:
        entropy = measured(view, run, "entropy")
        place = int(entropy.values.argmin())
        least, end = float(entropy.values[place]), float(entropy.values[-1])
        margin = entropy_margin(entropy, place, -1)
        return end - least - margin, f"S {told(least)} → {told(end)}; margin {told(margin, 2)}"

    return number
