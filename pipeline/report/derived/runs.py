"""What is derived from the curves of one run: trace ratio, values at the least test loss, regime and turning point."""

from typing import Any

import numpy as np

from tangentscope.pipeline.report.derived.rows import Row
from tangentscope.pipeline.report.view import Kernel, View, column
from tangentscope.probes.trajectories.curves import learning_regime, running_mean, trace_ratio

AT_LEAST_LOSS = "_at_least_test_loss"


def of_run(view: View, run: dict[str, Any], network: str, split: str, kernel: Kernel) -> list[Row]:
    """The rows of a finished run."""
    about: dict[str, Any] = {"network": network, "run": run["run"], "seed": run["seed"]}
    regime = _regime(view, run, about, split, kernel) if "entropy" in _variables(view, split, kernel) else []
    return [*_at_least_loss(view, run, about, split, kernel), *regime]


def _at_least_loss(view: View, run: dict[str, Any], about: dict[str, Any], split: str, kernel: Kernel) -> list[Row]:
    """Where the test loss is least of the steps at which the kernel was measured too, the first of equals."""
    losses = view.curve(run, "test", "loss", None)
    rows: list[Row] = []
    for variable in _variables(view, split, kernel):
        curve = view.curve(run, split, variable, kernel)
        both = losses.merge(curve, on="step", suffixes=("_loss", ""))
        loss, values, steps = (column(both, name) for name in ("value_loss", "value", "step"))
        name = f"{variable}{AT_LEAST_LOSS}"
        if not loss.size:
            rows.append(Row(name, text="no step has both a test loss and a value", **about))
            continue
        if np.isnan(loss).any():  # which leaves the least one open
            rows.append(Row(name, text="a test loss is not finite", **about))
            continue
        place = int(np.argmin(loss))
        where = about | {"step": float(steps[place]), "epoch": float(steps[place]) / run["epoch_steps"]}
        rows.append(Row(name, value=float(values[place]), **where))
        if variable == "trace":
            rows.append(Row("test_loss_least", value=float(loss[place]), **where))
            if steps[0] == 0:
                rows.append(Row("trace_ratio", value=trace_ratio(values, loss), **where))
    return rows


def _regime(view: View, run: dict[str, Any], about: dict[str, Any], split: str, kernel: Kernel) -> list[Row]:
    """The regime (`trajectories.curves.learning_regime`), and where the smoothed entropy is least."""
    curve = view.curve(run, split, "entropy", kernel)
    steps, values = column(curve, "step"), column(curve, "value")
    found = learning_regime(values, column(curve, "stderr")) if steps.size and steps[0] == 0 else None
    if found is None:
        return [Row("regime", text="none: too few values of the entropy, or none at an end", **about)]
    finite = np.isfinite(values)
    turn = float(steps[finite][int(np.argmin(running_mean(values[finite])))])
    where = about | {"step": turn, "epoch": turn / run["epoch_steps"]}
    return [
        Row("regime", text=found.label, **about),
        Row("turning_epoch", value=turn / run["epoch_steps"], **where),
        Row("entropy_rebound", value=found.rebound, **about),
        Row("entropy_net", value=found.net, **about),
    ]


def _variables(view: View, split: str, kernel: Kernel) -> list[str]:
    """The numbers that are measured on a kernel."""
    ours = [how for probe, how in view.probes.items() if how["split"] == split and view.kernel_of(probe) == kernel]
    names = dict.fromkeys(name for how in ours for name in how["variables"])
    return [name for name in names if view.runs_with[name, kernel]]
