"""What is derived from the curves of one run: trace ratio, values at the least test loss, regime and turning point."""

from collections.abc import Callable
from functools import partial

import numpy as np

from tangentscope.pipeline.report.derived.rows import Row
from tangentscope.pipeline.report.view import Kernel, View, column
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.curves import learning_regime, running_mean, trace_ratio

AT_LEAST_LOSS = "_at_least_test_loss"


def of_run(view: View, run: PlannedRun, network: str, split: str, kernel: Kernel) -> list[Row]:
    """The rows of a finished run."""
    row = partial(Row, network=network, run=run.id, seed=run.seed)
    regime = _regime(view, run, row, split, kernel) if "entropy" in _variables(view, split, kernel) else []
    return [*_at_least_loss(view, run, row, split, kernel), *regime]


def _at_least_loss(view: View, run: PlannedRun, row: Callable[..., Row], split: str, kernel: Kernel) -> list[Row]:
    """Where the test loss is least of all the steps at which it was taken, the first of equals.

    A kernel that was not measured there lies on the straight line between those measured before and after; how far
    away the nearest is, stands beside it.
    """
    losses = view.curve(run, "test", "loss", None)
    loss, taken = column(losses, "value"), column(losses, "step")
    rows: list[Row] = []
    for variable in _variables(view, split, kernel):
        curve = view.curve(run, split, variable, kernel)
        values, steps = column(curve, "value"), column(curve, "step")
        name = f"{variable}{AT_LEAST_LOSS}"
        within = (taken >= steps[0]) & (taken <= steps[-1]) if steps.size else np.zeros(len(taken), dtype=bool)
        if not within.any():
            rows.append(row(name, text="no test loss was taken between two steps with a value"))
            continue
        if np.isnan(loss[within]).any():  # which leaves the least one open
            rows.append(row(name, text="a test loss is not finite"))
            continue
        step = float(taken[within][np.argmin(loss[within])])
        there = partial(row, step=step, epoch=step / run.epoch_steps)
        between = np.interp(taken[within], steps, values)
        value = float(between[np.argmin(loss[within])])
        away = float(np.abs(steps - step).min()) / run.epoch_steps
        told = f"between two kernels, the nearer {away:g} epochs away" if away else ""
        rows.append(there(name, value=value, text=told))
        if variable == "trace":
            rows.append(there("test_loss_least", value=float(loss[within].min())))
            if steps[0] == taken[within][0] == 0:
                rows.append(there("trace_ratio", value=trace_ratio(between, loss[within])))
                rows.append(row("trace_initial", value=float(values[0]), step=0.0, epoch=0.0))
    return rows


def _regime(view: View, run: PlannedRun, row: Callable[..., Row], split: str, kernel: Kernel) -> list[Row]:
    """The regime (`trajectories.curves.learning_regime`), and where the smoothed entropy is least."""
    curve = view.curve(run, split, "entropy", kernel)
    steps, values = column(curve, "step"), column(curve, "value")
    found = learning_regime(values, column(curve, "stderr")) if steps.size and steps[0] == 0 else None
    if found is None:
        return [row("regime", text="none: too few values of the entropy, or none at an end")]
    finite = np.isfinite(values)
    turn = float(steps[finite][int(np.argmin(running_mean(values[finite])))])
    there = partial(row, step=turn, epoch=turn / run.epoch_steps)
    return [
        row("regime", text=found.label),
        there("turning_epoch", value=turn / run.epoch_steps),
        row("entropy_rebound", value=found.rebound),
        row("entropy_net", value=found.net),
    ]


def _variables(view: View, split: str, kernel: Kernel) -> list[str]:
    """The numbers that are measured on a kernel."""
    ours = [how for probe, how in view.probes.items() if how.split == split and view.kernel_of(probe) == kernel]
    names = dict.fromkeys(name for how in ours for name in how.variables)
    return [name for name in names if view.runs_with[name, kernel]]
