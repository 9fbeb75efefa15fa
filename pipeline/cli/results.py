"""The commands of ``tangentscope`` that look at results, tidy up and pass on; `pipeline.cli` has the others."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.system.redaction import redacted

if TYPE_CHECKING:
    import pandas as pd

console = Console(soft_wrap=True)

Out = Annotated[str | None, Parameter(help="Results: a directory or storage URI; results/NAME by default.")]
DataDir = Annotated[Path | None, Parameter(env_var="TANGENTSCOPE_DATA", help="Where data sets lie.")]
Address = Annotated[str | None, Parameter(help="A running Ray cluster; by default one is started on this machine.")]


def gc(
    path: str,
    *,
    keep: Annotated[Literal["all", "ends", "none"] | None, Parameter(help="Instead of the study's own policy.")] = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be freed.")] = False,
) -> None:
    """Free measured snapshots that need not be kept, and what launches left behind."""
    from tangentscope.pipeline.driver.free import free
    from tangentscope.pipeline.store.files import Storage
    from tangentscope.pipeline.system.formatting import human

    freed = free(Storage.at(path), keep, dry_run)
    what = ", ".join(f"{count} {kind}" for kind, count in freed.counts.items()) or "nothing"
    say(f"{'would free' if dry_run else 'freed'} {what}: {human(freed.bytes)}")


def status(
    path: str, *, watch: Annotated[bool, Parameter(negative="", help="Go on until nobody runs it.")] = False
) -> None:
    """Show how far a study is, from this or any other shell or node."""
    from tangentscope.pipeline.cli import progress
    from tangentscope.pipeline.store.files import Storage
    from tangentscope.pipeline.store.reader import Store

    progress.show(console, Store(Storage.at(path)), watch)


def report(
    path: str,
    *overrides: Annotated[str, Parameter(help="What it shows, for once: report.figures=[curves], report.log_x=true.")],
) -> None:
    """Make a study's figures and report anew from its tables."""
    from tangentscope.pipeline.driver.report_options import options
    from tangentscope.pipeline.report import write_report
    from tangentscope.pipeline.store.files import Storage
    from tangentscope.pipeline.store.reader import Store

    storage = Storage.at(path)
    for name in write_report(storage, options(Store(storage), overrides)):
        say(storage.path(name))


def compare(
    *paths: Annotated[str, Parameter(help="Results of two studies or more.")],
    out: Annotated[str, Parameter(help="Where the page is written: a directory or storage URI.")] = "comparison",
) -> None:
    """Overlay studies on one page: a colour a study, what differs, and values at the end with intervals."""
    from tangentscope.pipeline.report.compare import compare as overlay
    from tangentscope.pipeline.store.files import Storage

    to = Storage.at(out)
    for name in overlay([Storage.at(path) for path in paths], to):
        say(to.path(name))


def sync(path: str) -> None:
    """Upload to MLflow what it does not have of a study."""
    from tangentscope.pipeline.driver.finish import sync as send
    from tangentscope.pipeline.store.files import Storage
    from tangentscope.pipeline.store.launch import holder
    from tangentscope.pipeline.store.reader import Store
    from tangentscope.pipeline.tracking.uri import check_server, default_uri

    storage = Store(Storage.at(path)).storage
    uri = default_uri(storage)
    check_server(uri)
    experiment = send(storage, uri, live=holder(storage) is not None)
    say(f"{uri}: experiment {experiment} is up to date")


def export(
    path: str,
    *,
    to: Annotated[Path, Parameter(help="FILE.parquet or FILE.csv")],
    table: Literal["measurements", "history", "spectra", "profiles", "snapshots", "derived", "claims"] = "measurements",
) -> None:
    """Write one of a study's tables to a file, one row a measurement; in a CSV file lists of numbers are JSON."""
    import warnings

    from tangentscope.pipeline.driver.load import load

    writers = {".parquet": lambda frame: frame.to_parquet(to), ".csv": lambda frame: _write_csv(frame, to)}
    if to.suffix not in writers:
        raise UserError(f'export --to {to}: ending "{to.suffix}" unknown; give one of {", ".join(writers)}')
    with warnings.catch_warnings(record=True) as faults:
        warnings.simplefilter("always")
        frame = load(path, table)
    for fault in faults:
        say(f"warning: {fault.message}")
    try:
        writers[to.suffix](frame)
    except OSError as error:
        raise UserError(f"export --to {to}: {error.strerror or error}; give a file that can be written") from None
    say(f"{len(frame)} rows in {to}")


def _without_lists(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A frame with its lists of numbers as JSON, whole and with every digit: numpy's own text leaves most out."""
    import numpy as np

    changed = frame.copy(deep=False)
    for name in frame:
        if frame[name].dtype == object and any(isinstance(value, np.ndarray) for value in frame[name]):
            changed[name] = [None if value is None else json.dumps(value.tolist()) for value in frame[name]]
    return changed


_CSV_ROWS = 50_000  # made text of at a time


def _write_csv(frame: "pd.DataFrame", to: Path) -> None:
    with to.open("w", newline="") as file:
        for first in range(0, max(1, len(frame)), _CSV_ROWS):
            _without_lists(frame.iloc[first : first + _CSV_ROWS]).to_csv(file, index=False, header=not first)


def ls(what: Literal["tasks", "models", "optimisers", "variables", "studies"] = "studies") -> None:
    """List the tasks, models, optimisers, variables or shipped studies, each with a line about it."""
    from tangentscope.pipeline.cli import listing

    for name, line in listing.entries(what):
        say(f"{name:<26} {line}")


def doctor(*, data_dir: DataDir = None, out: Out = None, address: Address = None) -> int:
    """Check this machine, and an output and the nodes of a cluster if given. Exit code 1 if something is wrong."""
    from tangentscope.pipeline.system import limits

    problems = [*limits.problems()]
    for problem in problems:
        say(f"WRONG limits: {problem}")
    if problems:  # with which the rest of it cannot be loaded
        return 1
    from tangentscope.pipeline.cli.doctor import checks

    good = True
    for check in checks(data_dir, out, address):
        good &= check.good
        say(f"{check.mark:<5} {check.what}: {check.found}")
    return 0 if good else 1


def cite() -> None:
    """Print what to cite."""
    from tangentscope.pipeline.cli.listing import CITATION

    say(CITATION)


def say(text: str) -> None:
    """Print text as it is."""
    console.print(redacted(text), markup=False, highlight=False)


COMMANDS = (gc, status, report, compare, sync, export, ls, doctor, cite)
