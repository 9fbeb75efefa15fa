"""What there is to do at the end of a launch: tables, figures and report, MLflow, and how it went."""

import time
from dataclasses import dataclass

import numpy as np

from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.failures import FAILED, INTERRUPTED
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.tracking.tracker import Tracker


@dataclass(frozen=True)
class Ended:
    """How a launch ended: counts of runs and what the user wants to know next."""

    finished: int
    stopped: int  # on request
    failed: dict[str, str]  # run name -> cause
    failed_measurements: int
    interrupted: dict[str, int]  # values that what surrounds them kept from being measured, by cause
    nonfinite: int  # values that were measured, losses and scores that are NaN or infinite, as the report counts them
    seconds: float
    tracking_uri: str | None
    experiment: str | None
    trouble: str | None  # with tracking
    missing: tuple[str, ...] = ()  # what is wrong with the tables and could not be mended, a line each
    idle: bool = False  # nothing was missing


def publish(store: Store, launch: Launch) -> None:
    """Compact the tables, write them whole, and make figures and report."""
    from tangentscope.pipeline.report import write_report

    launch.check()
    store.publish(f"compact-{launch.epoch:06d}")
    write_report(store.storage)


def track(storage: Storage, uri: str | None) -> tuple[str | None, str | None]:
    """`sync`, if there is a URI: the experiment's id, or None and what went wrong."""
    try:
        return (sync(storage, uri) if uri is not None else None), None
    except UserError as error:
        return None, str(error)


def sync(storage: Storage, uri: str, live: bool = False) -> str:
    """Bring MLflow up to date with a study's storage; the experiment's id.

    Raises:
        UserError: No study there, or MLflow refused; what it has taken stays, and the rest can be sent again.
    """
    from tangentscope.pipeline.report.derived import scalars  # loads what reports need, which `run` does meanwhile

    tracker = Tracker(storage, uri, live)
    try:
        return tracker.finish(lambda: scalars(storage))
    except Exception as error:  # whatever MLflow, its database or the network raises: the results are not at risk
        raise UserError(f"MLflow at {uri}: {one_line(error)}; mend it and sync again") from error


def ended(store: Store, begun: float, uri: str | None, experiment: str | None, trouble: str | None) -> Ended:
    """How a launch ended, as the store has it."""
    outcomes = store.outcomes()
    names = {run.id: run.name for run in store.runs}
    states = [outcome.state for outcome in outcomes.values()]
    failed = {names[run]: outcome.cause or "" for run, outcome in outcomes.items() if outcome.state == "failed"}
    measurements = store.table("measurements", ("state", "cause", "value", "length", "compared_with")).frame
    measured = measurements.loc[(measurements["state"] == "measured") & ~tables.without_number(measurements)]
    return Ended(
        states.count("finished"),
        states.count("stopped"),
        failed,
        measurements["state"].tolist().count(FAILED),
        measurements.loc[measurements["state"] == INTERRUPTED, "cause"].value_counts().to_dict(),
        sum(int((~np.isfinite(frame["value"])).sum()) for frame in (measured, store.history())),
        time.time() - begun,
        uri,
        experiment,
        trouble,
        tuple(str(fault) for table in tables.SCHEMAS for fault in store.faults(table)),
    )
