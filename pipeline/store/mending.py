"""What a launch does about a damaged store before it works: it sets aside what is not right and says so.

Measurements that are gone are then missing like any that were never made, and are made again where their snapshots are
kept; those whose spectrum or profile is gone are taken back for it. Rows of loss, score and snapshots' costs come from
training alone, which is not repeated for them: that they are gone is told, by every command that reads the table.
"""

from collections.abc import Iterator
from typing import Any

from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.compaction import replace_parts
from tangentscope.pipeline.store.faults import Fault, set_aside
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.integrity import lost_rows, table_faults
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.plan import Plan

_MADE_AGAIN = ("measurements", "spectra", "profiles")


def mend_tables(launch: Launch, plan: Plan) -> Iterator[str]:
    """Set damaged parts aside and take back what is to be measured again; a line about each thing that was wrong."""
    storage = launch.storage
    for table in tables.SCHEMAS:
        for fault in table_faults(storage, plan, table, thorough=True):
            if fault.kind == "damaged":
                set_aside(storage, fault)
            yield f"{fault}; {_consequence(table, fault)}"
    launch.check()
    _take_back(launch, plan)


def _consequence(table: str, fault: Fault) -> str:
    if fault.kind == "foreign":
        return "it is not read: remove it"
    if table in _MADE_AGAIN:
        return "its values are measured again where snapshots are kept"
    return "its rows can only be had again by training, so they stay missing"


def _take_back(launch: Launch, plan: Plan) -> None:
    """Remove measurements whose spectrum or profile is lost and whose snapshots are kept: they are then made again."""
    storage = launch.storage
    lost = {(run, step, probe) for (run, _, probe), steps in lost_rows(storage, "spectra").items() for step in steps}
    of_variable = {
        (run, step, probe, variable)
        for (run, _, probe, variable), steps in lost_rows(storage, "profiles").items()
        for step in steps
    }
    if not lost and not of_variable:
        return
    kept = {run.id: _kept(storage, run.id) for run in plan.runs}
    parts = tables.read_parts(storage, "measurements")
    frame = parts.frame
    gone = []
    for row in frame.to_dict("records"):
        key = (row["run"], row["step"], row["probe"])
        needed = {f"{row['step']}-{row['checksum']}"} | _compared(row["compared_with"])
        is_lost = key in lost or (*key, row["variable"]) in of_variable
        gone.append(is_lost and needed <= kept.get(row["run"], set()))
    if any(gone):
        left = frame.loc[[not each for each in gone]]
        replace_parts(storage, "measurements", left, parts.names, f"mended-{launch.epoch:06d}")


def _kept(storage: Storage, run: str) -> set[str]:
    names = run_files.current_snapshots(storage, run)
    return {f"{name.step}-{name.checksum}" for name in names if not name.freed}


def _compared(tag: Any) -> set[str]:
    """Step and checksum of the earlier snapshots that a row compares with; pandas has NaN for no text at all."""
    return set(tag.split()) - {tables.NOTHING} if isinstance(tag, str) else set()
