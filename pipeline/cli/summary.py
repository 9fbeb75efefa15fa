"""What `run` says when it ends: where everything is, and the exact commands to look at it."""

import json
import shlex
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from tangentscope.pipeline.driver.finish import Ended
from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.redaction import redacted, without_userinfo
from tangentscope.pipeline.tracking.study_report import TRAININGS


def tell(console: Console, out: str, ended: Ended) -> None:
    """Print the outcome of a launch, the places of its results and how to open them."""
    storage = Storage.at(out)
    stopped = f", {ended.stopped} stopped on request" if ended.stopped else ""
    counts = f"{ended.finished} runs finished, {len(ended.failed)} failed{stopped}"
    if ended.idle:
        lines = [f"nothing to do: {counts}, and no snapshot waits to be measured; report {storage.path(layout.REPORT)}"]
    else:
        lines = [f"{counts}, in {ended.seconds:.0f} s"]
    lines += [f"  failed: {name}: {cause}" for name, cause in ended.failed.items()]
    if ended.failed_measurements:
        lines.append(f"  {ended.failed_measurements} values could not be measured; the report says why")
    if ended.failed or ended.failed_measurements or ended.stopped:
        lines.append(f"  take these up again:  tangentscope retry {shlex.quote(out)}")
    lines += [f"  {line}" for line in ended.missing]
    lines += [f"  {count} values have not been measured: {cause}" for cause, count in ended.interrupted.items()]
    if ended.interrupted:
        lines.append("  the same command takes these up again")
    if ended.nonfinite:
        lines.append(f"  {ended.nonfinite} values, losses or scores are NaN or infinite; the report counts them by run")
    if not ended.idle:
        lines += _places(storage, out, ended)
    if ended.trouble:
        lines.append(f"MLflow is behind ({ended.trouble}); nothing is lost: tangentscope sync {shlex.quote(out)}")
    elif ended.tracking_uri is None and not ended.idle:
        lines.append(f"put it into MLflow:  tangentscope sync {shlex.quote(out)}")
    for line in lines:
        console.print(redacted(line), markup=False, highlight=False)


def _places(storage: Storage, out: str, ended: Ended) -> list[str]:
    lines = [
        f"report    {storage.path(layout.REPORT)}",
        f"figures   {storage.path('figures')}",
        f"tables    {storage.path('measurements.parquet')} (history, spectra, profiles and snapshots beside it)",
        "",
    ]
    if storage.local is not None:
        lines.append(f"open the report:  python -m webbrowser {shlex.quote((storage.local / layout.REPORT).as_uri())}")
    code = f"import tangentscope; print(tangentscope.load({json.dumps(out)}))"
    lines.append(f"load the table:   python -c {shlex.quote(code)}")
    if ended.tracking_uri is not None and ended.experiment is not None:
        lines += _mlflow(ended.tracking_uri, ended.experiment)
    return lines


def _mlflow(uri: str, experiment: str) -> list[str]:
    # The report is a run of its own, which has no place among curves.
    page = f"searchFilter={quote(TRAININGS)}&compareRunsMode=CHART&workflowType=machine_learning"
    if uri.startswith(("http://", "https://")):
        return [f"open MLflow:      {without_userinfo(uri)[0].rstrip('/')}/#/experiments/{experiment}/runs?{page}"]
    # A database's password stands where it came from.
    backend = shlex.quote(_short(uri)) if redacted(uri) == uri else '"$MLFLOW_TRACKING_URI"'
    server = "mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri"
    return [
        f"open MLflow:      MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {server} {backend}",
        f"                  then http://127.0.0.1:5000/#/experiments/{experiment}/runs?{page}",
    ]


def _short(uri: str) -> str:
    # A relative path reads better, and holds where the user stands now.
    file = Path(uri.removeprefix("sqlite:///"))
    return f"sqlite:///{file.relative_to(Path.cwd())}" if file.is_relative_to(Path.cwd()) else uri
