"""Numbers that are derived from a run's curves, as metrics of a training: they can be sorted and compared by."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.tracking.study_report import DIGEST, TRAININGS, reports_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SENT = "tangentscope.derived"  # of a report: the digest of its files when its numbers were sent
_PAGE = 1000  # runs


def send_derived(
    client: "MlflowClient",
    experiment: str,
    storage: str,
    trainings: Mapping[str, PlannedRun],
    derived: Callable[[], Mapping[str, Mapping[str, float]]],
) -> None:
    """Give each training the numbers that a report derives of it, at its last step, where MLflow has others or none.

    Args:
        client: MLflow's.
        experiment: The study's.
        storage: Whose report it is; without one nothing is sent, nor where the numbers of just this report were.
        trainings: The planned runs by the ids of MLflow's.
        derived: Gives numbers by run and name.
    """
    from mlflow.entities import Metric

    reports = reports_of(client, experiment, storage)
    if not reports or all(report.data.tags.get(_SENT) == report.data.tags.get(DIGEST) for report in reports):
        return
    numbers, now = derived(), int(time.time() * 1000)
    there = _latest(client, experiment)
    for run, planned in trainings.items():
        values = {f"derived/{name}": value for name, value in numbers.get(planned.id, {}).items()}
        fresh = {key: value for key, value in values.items() if there.get(run, {}).get(key) != value}
        if fresh:
            client.log_batch(run, [Metric(key, value, now, planned.steps) for key, value in fresh.items()])
    for report in reports:
        client.set_tag(report.info.run_id, _SENT, report.data.tags.get(DIGEST, ""))


def _latest(client: "MlflowClient", experiment: str) -> dict[str, dict[str, float]]:
    """The latest values of all metrics of all trainings, by MLflow's ids."""
    found: dict[str, dict[str, float]] = {}
    token = None
    while token != "":
        page = client.search_runs([experiment], TRAININGS, max_results=_PAGE, page_token=token)
        found |= {run.info.run_id: dict(run.data.metrics) for run in page}
        token = page.token or ""
    return found
