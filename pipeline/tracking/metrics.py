"""A store's rows as points of metrics: one name for a quantity in all runs of a study, which every backend takes."""

import re

import numpy as np
import pandas as pd

from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.reader import Store

_COLUMNS = ("run", "step", "split", "variable", "value", "recorded_at")
COLUMNS = {"history": _COLUMNS, "measurements": (*_COLUMNS, "probe", "length", "compared_with")}
"""By table, what `points` takes of it."""

_LONGEST = 250  # characters of a name
_REFUSED = re.compile(r"[^A-Za-z0-9_\-./ ]")  # by MLflow on one system or another


def points(store: Store, table: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the history or of measurements with the metric that each is a point of.

    Returns:
        Columns ``run, step, probe, variable, value, recorded_at`` and ``key``, the metric's name, which is empty where
        a row has no number by its nature. Rows of probes that are planned no longer are left out.
    """
    if table == "measurements":
        names = store.plan.suffixes
        rows = rows.loc[rows["probe"].isin(list(names))]
        without = tables.without_number(rows)
        additions = pd.Series([names[str(probe)] for probe in rows["probe"]], index=rows.index, dtype=str)
    else:
        rows, without, additions = rows.assign(probe=""), np.zeros(len(rows), dtype=bool), ""
    keys = (rows["split"] + "/" + rows["variable"] + additions).astype("category")
    keys = keys.cat.rename_categories([clean(key) for key in keys.cat.categories]).mask(without)
    return rows[["run", "step", "probe", "variable", "value", "recorded_at"]].assign(key=keys)


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
