"""Every variable that was measured, by its last value: means over seeds, a row a network."""

from dataclasses import dataclass

import numpy as np

from tangentscope.pipeline.config.features import BOTH
from tangentscope.pipeline.report.view import SPLITS, Kernel, View, column
from tangentscope.pipeline.store.planned import PlannedRun


@dataclass(frozen=True)
class Mean:
    """The mean over the runs that differ by their seed only, and its standard error; None with a single one."""

    value: float
    stderr: float | None


@dataclass(frozen=True)
class Ends:
    """The last values on one split of all variables that one kernel has: a row a network, a column a variable."""

    split: str
    kernel: Kernel
    variables: list[str]
    rows: list[tuple[str, list[Mean | None]]]


def values_at_end(view: View) -> list[Ends]:
    """A table for each split and kernel of which there are numbers; NaN where the last value of some seed is none."""
    tables = []
    by_kernel: dict[tuple[str, Kernel], list[str]] = {}
    for how in view.probes.values():
        probe = how.split, view.kernel_of(how.id)
        by_kernel[probe] = list(dict.fromkeys([*by_kernel.get(probe, ()), *how.variables]))
    for (split, kernel), variables in sorted(by_kernel.items(), key=lambda each: (*SPLITS, BOTH).index(each[0][0])):
        there = [name for name in variables if view.runs_with[name, kernel]]
        rows = [
            (" ".join(parts) or view.name, [_mean(view, runs, split, name, kernel) for name in there])
            for parts, runs in view.networks.items()
        ]
        rows = [(name, values) for name, values in rows if any(values)]
        if rows:
            tables.append(Ends(split, kernel, there, rows))
    return tables


def _mean(view: View, runs: list[PlannedRun], split: str, variable: str, kernel: Kernel) -> Mean | None:
    curves = [column(view.curve(run, split, variable, kernel), "value") for run in runs]
    last = np.array([values[-1] for values in curves if values.size])
    if not last.size:
        return None
    return Mean(float(last.mean()), float(last.std(ddof=1) / np.sqrt(last.size)) if last.size > 1 else None)
