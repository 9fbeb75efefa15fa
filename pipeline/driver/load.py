"""A study's tables for notebooks and scripts."""

import warnings
from pathlib import Path

import pandas as pd

from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError

_COMPUTED = ("derived", "claims")


def load(path: str | Path, table: str = "measurements") -> pd.DataFrame:
    """A study's table as a DataFrame, whether the study has ended or is still going on.

    Args:
        path: The study's output directory or storage URI.
        table: ``measurements``, ``history``, ``spectra``, ``profiles`` or ``snapshots``; or ``derived`` or
            ``claims``, which are computed from these.

    Raises:
        UserError: No study at `path`, or no such table.

    Warns:
        UserWarning: Rows are missing, since a file that had them is missing, damaged or of something else.
    """
    if table in _COMPUTED:
        from tangentscope.pipeline.report.claims.decided import claims_table  # loads what draws figures
        from tangentscope.pipeline.report.derived import derived
        from tangentscope.pipeline.report.view import View

        return {"derived": derived, "claims": claims_table}[table](View(Storage.at(path)))
    if table not in tables.SCHEMAS:
        raise UserError(f'table "{table}" unknown; allowed: {", ".join([*tables.SCHEMAS, *_COMPUTED])}')
    parts = Store(Storage.at(path)).table(table)
    for fault in parts.faults:
        warnings.warn(f"{path}: {fault}: not among these rows", stacklevel=2)
    return parts.frame
