"""A store's rows as points of metrics: one name for a quantity in all runs of a study, which every backend takes."""

import re

import numpy as np
import pandas as pd

from tangentscope.pipeline.config.features import MEASURED
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.planned import PlannedProbe
from tangentscope.pipeline.store.reader import Store

_COLUMNS = ("run", "step", "split", "variable", "value", "recorded_at")
COLUMNS = {"history": _COLUMNS, "measurements": (*_COLUMNS, "probe", "length", "compared_with")}
"""By table, what `points` takes of it."""

MOST = 18
"""Curves of measurements a run; losses, scores and what is derived come to a dozen more, and nobody reads above 30."""

_PROFILES = {name for name, variable in MEASURED.items() if variable.kind == "profile"}
_LONGEST = 250  # characters of a name
_REFUSED = re.compile(r"[^A-Za-z0-9_\-./ ]")  # by MLflow on one system or another


def points(store: Store, table: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the history or of measurements with the metric that each is a point of.

    Returns:
        Columns ``run, step, probe, variable, value, recorded_at`` and ``key``, the metric's name, which is empty where
        a row has no number by its nature or is beyond the `MOST` curves. Rows of probes that are planned no longer are
        left out.
    """
    if table == "measurements":
        suffixes = store.plan.suffixes
        rows = rows.loc[rows["probe"].isin(list(suffixes))]
        without, beyond = tables.without_number(rows), left_out(store)
        additions = pd.Series([suffixes[str(probe)] for probe in rows["probe"]], index=rows.index, dtype=str)
    else:
        rows, without, beyond, additions = rows.assign(probe=""), np.zeros(len(rows), dtype=bool), [], ""
    keys = (rows["split"] + "/" + rows["variable"] + additions).astype("category")
    keys = keys.cat.rename_categories([clean(key) for key in keys.cat.categories])
    keys = keys.mask(without | keys.isin(beyond))
    return rows[["run", "step", "probe", "variable", "value", "recorded_at"]].assign(key=keys)


def names(store: Store) -> list[str]:
    """The metrics of planned measurements, the study's first variable on all splits first, and further probes last."""
    found: list[str] = []
    for probes in (store.plan.probes, store.plan.further):
        for place in range(max((len(probe.variables) for probe in probes), default=0)):
            ours = [(probe, probe.variables[place]) for probe in probes if place < len(probe.variables)]
            found += [_name(store, probe, variable) for probe, variable in ours if variable not in _PROFILES]
    return list(dict.fromkeys(found))


def _name(store: Store, probe: PlannedProbe, variable: str) -> str:
    return clean(f"{probe.split}/{variable}{store.plan.suffixes[probe.id]}")


def left_out(store: Store) -> list[str]:
    """The metrics that MLflow does not get, as there are `MOST` already."""
    return names(store)[MOST:]


def clean(name: str) -> str:
    """A name that MLflow takes: what it refuses is spelt by its code, so that ``a@5`` and ``a_5`` stay two names."""
    return _REFUSED.sub(lambda match: f"_x{ord(match[0]):x}_", name)[:_LONGEST]


def mark(rows: pd.DataFrame) -> str:
    """How many points there are and a sum over their keys, steps and values, whatever their order: equal if they are.

    Args:
        rows: Columns ``key, step, value``, each key and step once.
    """
    points = rows[["key", "step", "value"]].astype({"key": str})
    numbers = pd.util.hash_pandas_object(points, index=False)  # pyright: ignore[reportAttributeAccessIssue]  loaded lazily
    return f"{len(rows)}-{int(numbers.to_numpy().sum(dtype=np.uint64)):016x}"
