"""Report and figures of a study in MLflow: a run of their own beside the trainings, and a word on the experiment."""

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.reader import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRAININGS = "tags.`tangentscope.run` != ''"
"""MLflow's filter for the runs that are trainings, and not the report."""

REPORTS = "tags.`tangentscope.kind` = 'report'"
"""MLflow's filter for the runs that hold reports."""

DIGEST = "tangentscope.artifacts"
"""The tag of a report that tells its files from others."""

_KIND, _STORAGE = "tangentscope.kind", "tangentscope.storage"
_NOTE, _VIEW = "mlflow.note.content", "mlflow.experimentKind"
_GUESSED = "_inferred"  # by MLflow's page, from what it happened to find
_TRAINING_VIEW = "custom_model_development"  # else the experiment may open in the view of language-model applications


def send_report(client: "MlflowClient", experiment: str, store: Store) -> None:
    """Give the study's run of reports the files that there are now, unless it has just these."""
    files = _files(store)
    digest = hashlib.sha256(b"".join(name.encode() + hashlib.sha256(data).digest() for name, data in files)).hexdigest()
    there = reports_of(client, experiment, store.storage.uri)
    if not files or [run.data.tags.get(DIGEST) for run in there] == [digest]:
        return
    names = {name for name, _ in files}
    # MLflow's client removes no artifacts: where a figure is there no more, a new run takes the place of the old one.
    kept = [run.info.run_id for run in there if len(there) == 1 and _names(client, run.info.run_id) <= names]
    for run in there:
        if run.info.run_id not in kept:
            client.delete_run(run.info.run_id)
    tags = {_KIND: "report", _STORAGE: store.storage.uri, "study": store.name}
    report = (
        kept[0] if kept else client.create_run(experiment, tags=tags, run_name=f"report of {store.name}").info.run_id
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in files:
            path = Path(scratch) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        client.log_artifacts(report, scratch)
    client.set_tag(report, DIGEST, digest)
    client.set_terminated(report)


def _names(client: "MlflowClient", run: str) -> set[str]:
    top = client.list_artifacts(run)
    below = [file for entry in top if entry.is_dir for file in client.list_artifacts(run, entry.path)]
    return {file.path for file in [*top, *below] if not file.is_dir}


def describe(client: "MlflowClient", experiment: str, name: str) -> None:
    """Say on the experiment's page what it is and where its reports are."""
    tags = client.get_experiment(experiment).tags
    lead = f"Tangent kernels of the study **{name}** while its networks learn: a run is a training."
    lines = [lead, ""]
    for run in _reports(client, experiment):
        link = f"#/experiments/{experiment}/runs/{run.info.run_id}/artifacts/{layout.REPORT}"
        lines.append(f"- [Report and figures]({link}) of `{run.data.tags.get(_STORAGE)}`")
    note, present = "\n".join(lines), tags.get(_NOTE) or lead
    if present != note and present.startswith(lead):  # else somebody has written a word of their own
        client.set_experiment_tag(experiment, _NOTE, note)
    if tags.get(_VIEW, _GUESSED).endswith(_GUESSED):
        client.set_experiment_tag(experiment, _VIEW, _TRAINING_VIEW)


def reports_of(client: "MlflowClient", experiment: str, storage: str) -> "list[Run]":
    """The runs that hold the reports of a storage: one, unless something went wrong."""
    return [run for run in _reports(client, experiment) if run.data.tags.get(_STORAGE) == storage]


def _reports(client: "MlflowClient", experiment: str) -> "list[Run]":
    return list(client.search_runs([experiment], REPORTS))


def _files(store: Store) -> list[tuple[str, bytes]]:
    names = [layout.STUDY, layout.PROVENANCE, layout.REPORT]
    names += [f"figures/{file}" for file in store.storage.list("figures")]
    return [(name, store.storage.read(name)) for name in names if store.storage.exists(name)]
