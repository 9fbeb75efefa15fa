"""What is derived of networks over their seeds, and of several networks: means, adaptation rate, least width."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tangentscope.pipeline.report.derived.ensembles import WIDTHS, WINDOW, trace_and_losses
from tangentscope.pipeline.report.derived.rows import Row
from tangentscope.pipeline.report.view import Kernel, View, value_label
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.adaptation import adaptation_rate
from tangentscope.probes.trajectories.curves import COMPRESSION_THEN_FORMATION, FORMATION

_FORMS = (FORMATION, COMPRESSION_THEN_FORMATION)


def over_seeds(rows: Sequence[Row], network: str) -> list[Row]:
    """Mean, standard error and standard deviation of each quantity; NaN if a seed's is; of regimes how many of each."""
    by_quantity: dict[str, list[Row]] = {}
    for row in rows:
        by_quantity.setdefault(row.quantity, []).append(row)
    found = []
    for quantity, ours in by_quantity.items():
        if quantity == "regime":
            counts = Counter(row.text for row in ours).most_common()
            text = ours[0].text if len(counts) == 1 else ", ".join(f"{count} × {label}" for label, count in counts)
            found.append(Row(quantity, network, seeds=len(ours), text=text))
            continue
        values, epochs = (np.array([getattr(row, name) for row in ours]) for name in ("value", "epoch"))
        spread = float(values.std(ddof=1)) if len(ours) > 1 else math.nan
        text = next((row.text for row in ours if row.text), "")
        found.append(
            Row(
                quantity,
                network,
                value=float(values.mean()),
                epoch=float(epochs.mean()),
                stderr=spread / math.sqrt(len(ours)),
                spread=spread,
                seeds=len(ours),
                text=text,
            )
        )
    return found


def adaptation(view: View, runs: Sequence[PlannedRun], network: str, split: str, kernel: Kernel) -> list[Row]:
    """The adaptation rate (BSC eq. 4) of the seeds together, a row a step at which all have a trace and a train loss.

    Its value at the step where the mean test loss is least stands in a row of its own, as BSC §4 have it.
    """
    curves = [trace_and_losses(view, run, split, kernel) for run in runs]
    if not curves:
        return []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    if len(steps) < 2 or not (lasting := runs[0].epoch_steps):
        return []
    stacked = np.array([[curve[step] for step in steps] for curve in curves])  # [seeds, steps, (trace, train, test)]
    epochs = np.array(steps) / lasting
    found = adaptation_rate(epochs, stacked[..., 0], stacked[..., 1], WINDOW)
    places = zip(found.rate.tolist(), found.stderr.tolist(), steps, epochs.tolist(), strict=True)
    rows = [
        Row("adaptation_rate", network, rate, step=float(step), epoch=epoch, stderr=error, seeds=len(curves))
        for rate, error, step, epoch in places
    ]
    test = stacked[..., 2].mean(axis=0)
    if np.isfinite(test).all():
        at = rows[int(np.argmin(test))]
        rows.append(replace(at, quantity="adaptation_rate_at_least_test_loss"))
    return rows


def least_widths(view: View, regimes: dict[str, str]) -> list[Row]:
    """The least width at which most seeds show formation, for each combination of what else is varied.

    Args:
        view: The study.
        regimes: The finished runs' by their id.
    """
    field = next((field for field in WIDTHS if field in view.varied), None)
    if field is None or not all(type(run.varied[field]) in (int, float) for run in view.runs):
        return []
    groups: dict[str, dict[float, list[bool]]] = {}
    for run in view.runs:
        others = [f"{view.short(name)}={value_label(run.varied[name])}" for name in view.varied if name != field]
        if run.id in regimes:
            at = groups.setdefault(", ".join(others), {}).setdefault(run.varied[field], [])
            at.append(regimes[run.id] in _FORMS)
    rows = []
    for others, widths in groups.items():
        if len(widths) < 2:
            continue
        forming = [width for width, seeds in sorted(widths.items()) if np.mean(seeds) > 0.5]
        seeds = min(map(len, widths.values()))
        text = "" if forming else f"none of {', '.join(value_label(width) for width in sorted(widths))}"
        value = float(forming[0]) if forming else math.nan
        rows.append(Row(f"least_{view.short(field)}_with_formation", others, value, seeds=seeds, text=text))
    return rows
