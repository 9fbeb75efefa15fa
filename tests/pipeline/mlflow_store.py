"""What a real MLflow store has, read back through its client."""

from mlflow import MlflowClient
from mlflow.entities import Run

from tangentscope.pipeline.tracking.study_report import REPORTS, TRAININGS


def runs_of(uri: str, name: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name.removeprefix("name="))
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], TRAININGS, order_by=["params.`model.width` ASC"])


def reports_of(uri: str, name: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name.removeprefix("name="))
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], REPORTS)


def points(uri: str, run: Run) -> dict[str, list[tuple[int, float]]]:
    client = MlflowClient(uri)
    return {
        key: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }
