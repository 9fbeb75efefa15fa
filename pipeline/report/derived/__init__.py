"""What follows from what was measured: a table that is computed from the store whenever it is read."""

import math
from dataclasses import asdict, dataclass
from weakref import WeakKeyDictionary

import pandas as pd

from tangentscope.pipeline.report.derived.ensembles import WINDOW
from tangentscope.pipeline.report.derived.networks import adaptation, least_widths, over_seeds
from tangentscope.pipeline.report.derived.rows import COLUMNS, Row
from tangentscope.pipeline.report.derived.runs import AT_LEAST_LOSS, of_run
from tangentscope.pipeline.report.derived.scaling import Scaling, of_scaling
from tangentscope.pipeline.report.derived.scaling import scalings as of_scales
from tangentscope.pipeline.report.summaries import results_on, state
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store.files import Storage

SCALARS = ("test_loss_least", "trace_ratio", "turning_epoch", "entropy_rebound", "entropy_net")
"""What is derived of a run that is worth a column in a table of runs."""

__all__ = ["AT_LEAST_LOSS", "SCALARS", "WINDOW", "Row", "Scaling", "derived", "rows", "scalars", "scalings"]


@dataclass(frozen=True)
class _Told:
    rows: list[Row]
    scalings: list[Scaling]


# What figures, claims and tables of one report all ask for: fits take seconds.
_found: WeakKeyDictionary[View, _Told] = WeakKeyDictionary()


def rows(view: View) -> list[Row]:
    """Of every finished run, then of every network over its finished runs, then of all networks.

    On the split and kernel that the report's table of runs is about; empty where neither entropy nor trace is measured.
    """
    return _all(view).rows


def scalings(view: View) -> list[Scaling]:
    """What came of each ensemble of networks or data of several sizes; see `scaling`."""
    return _all(view).scalings


def _all(view: View) -> _Told:
    if view not in _found:
        _found[view] = _derive(view)
    return _found[view]


def _derive(view: View) -> _Told:
    way = results_on(view)
    if way is None:
        return _Told([], [])
    of_runs: list[Row] = []
    of_networks: list[Row] = []
    for parts, runs in view.networks.items():
        network = ", ".join(parts)
        finished = [run for run in runs if state(view, run.id) == "finished"]
        ours = [row for run in finished for row in of_run(view, run, network, *way)]
        of_runs += ours
        of_networks += [*over_seeds(ours, network), *adaptation(view, finished, network, *way)]
    regimes = {str(row.run): row.text for row in of_runs if row.quantity == "regime"}
    found = of_scales(view, of_runs, *way)
    fits = [row for scaling in found for row in of_scaling(scaling)]
    return _Told([*of_runs, *of_networks, *least_widths(view, regimes), *fits], found)


def derived(view: View) -> pd.DataFrame:
    """The rows as a table: a row a quantity; of runs those with a `run`, else of networks over their seeds."""
    way = results_on(view)
    frame = pd.DataFrame([asdict(row) for row in rows(view)], columns=[*asdict(Row("", ""))])
    told = {"study": view.name, "split": way[0] if way else None, "kernel": str(way[1]) if way else None}
    frame = frame.astype({"seed": "Int64"}).assign(**told)
    return pd.DataFrame(frame[[*COLUMNS]])


def scalars(storage: Storage) -> dict[str, dict[str, float]]:
    """The numbers of `SCALARS` that there are, by run and name."""
    found: dict[str, dict[str, float]] = {}
    for row in rows(View(storage)):
        if row.run is not None and row.quantity in SCALARS and math.isfinite(row.value):
            found.setdefault(row.run, {})[row.quantity] = row.value
    return found
