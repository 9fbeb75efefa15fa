"""The spectra of a study, as shares of the trace: means over draws and seeds by step."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tangentscope.pipeline.report.view import Kernel, View, where
from tangentscope.pipeline.store.planned import PlannedRun

_MOST = 20_000_000  # eigenvalues that are read for a figure: of more, a report would take minutes
_COLUMNS = ("run", "step", "probe", "split", "draw", "eigenvalues")


def spectra(view: View) -> pd.DataFrame:
    """The table of spectra with the kernel and the place on the x axis of each row.

    No rows where the plan asks for more than a report can read.
    """
    if _planned(view) > _MOST:
        return pd.DataFrame(columns=[*_COLUMNS, "kernel", "x"])
    rows = view.store.table("spectra", _COLUMNS).frame
    rows = rows.loc[rows["probe"].isin(list(view.probes))]
    places = pd.DataFrame(view.measurements[["run", "step", "x"]]).drop_duplicates(subset=["run", "step"])
    kernels = [view.kernel_of(probe) for probe in rows["probe"]]
    return rows.merge(places, on=["run", "step"], how="left").assign(kernel=kernels)


def shares(rows: pd.DataFrame, runs: Sequence[PlannedRun], split: str, kernel: Kernel) -> pd.DataFrame:
    """Geometric means over draws and runs of p_k = λ_k/Σλ: a row a step, by its x; a column a rank.

    A step that a run lacks is left out, and an eigenvalue that is 0 or NaN in one of them is NaN.
    """
    ours = where(rows.loc[rows["run"].isin([run.id for run in runs])], split=split, kernel=kernel)
    if not len(ours):
        return pd.DataFrame()
    values = np.stack(ours["eigenvalues"].to_list())
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values / values.sum(axis=1, keepdims=True))
    logs[~np.isfinite(logs)] = np.nan
    about = {name: ours[name].to_numpy() for name in ("run", "step", "x")}
    frame = pd.DataFrame(logs).assign(**about)
    by_run = frame.groupby(["run", "step"]).agg(lambda column: column.mean(skipna=False))
    everyone = by_run.groupby("step").size() == by_run.index.get_level_values("run").nunique()
    means = by_run.groupby("step").agg(lambda column: column.mean(skipna=False)).loc[everyone].set_index("x")
    return np.exp(means)  # pyright: ignore[reportReturnType]


def _planned(view: View) -> int:
    """How many eigenvalues the plan's kernels have at most."""
    total = 0
    for run in view.runs:
        outputs = run.data.outputs or 1
        for probes in view.store.wanted(run).values():
            for probe in probes:
                how = view.probes[probe]
                total += 0 if how.is_of_features else how.draws * how.size * (outputs if how.outputs == "full" else 1)
    return total
