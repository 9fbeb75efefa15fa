"""Seeds are grouped by a tag, curves are bounded, and what a report derives of a training is a metric of it."""

from pathlib import Path

import pytest
from mlflow_store import points, runs_of
from study_on_disk import write_study

from tangentscope.pipeline.driver.finish import publish, sync
from tangentscope.pipeline.report.derived import SCALARS, scalars
from tangentscope.pipeline.store.launch import claim
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.tracking import metrics
from tangentscope.pipeline.tracking.tracker import Tracker
from tangentscope.probes import VARIABLES
from tangentscope.probes.variables import givens_of

NUMBERS = [name for name, variable in VARIABLES.items() if variable.kind == "number" and not givens_of(name)]


def test_runs_that_differ_by_their_seed_share_a_tag(uri: str, name: str, tmp_path: Path):
    Tracker(write_study(tmp_path, name, "seeds=2")[0], uri).finish()
    tags = [run.data.tags for run in runs_of(uri, name)]
    assert sorted((each["network"], each["seed"]) for each in tags) == [
        *(("width=3", "0"), ("width=3", "1"), ("width=5", "0"), ("width=5", "1")),
    ]


def test_where_nothing_is_varied_the_model_is_the_group(uri: str, name: str, tmp_path: Path):
    Tracker(write_study(tmp_path, name, "grid={}", "model.width=3", "seeds=2")[0], uri).finish()
    assert {run.data.tags["network"] for run in runs_of(uri, name)} == {"mlp"}


def test_a_run_has_a_bounded_number_of_curves_and_says_which_are_left_out(
    uri: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(metrics, "MOST", 3)
    storage, plan = write_study(tmp_path, name)
    Tracker(storage, uri).finish()
    first, second = (probe["split"] for probe in plan["probes"])
    for run in runs_of(uri, name):
        kept = {key for key in run.data.metrics if key.partition("/")[2] not in ("loss", "accuracy")}
        assert kept == {f"{first}/trace", f"{second}/trace", f"{first}/entropy"}, "in the study's order, split by split"
        assert run.info.status == "FINISHED", "what is no curve is measured all the same"
        told = run.data.tags["metrics.left_out"]
        assert told.endswith(f": {second}/entropy, {first}/effective_rank, {second}/effective_rank")


def test_no_study_of_many_variables_has_more_than_thirty_metrics(uri: str, name: str, tmp_path: Path):
    assert len(NUMBERS) > 10
    storage, _ = write_study(tmp_path, name, f"probes.variables=[{','.join(NUMBERS)}]")
    Tracker(storage, uri).finish()
    assert len(metrics.left_out(Store(storage))) == 2 * len(NUMBERS) - metrics.MOST
    for run in runs_of(uri, name):
        assert len(run.data.metrics) + len(SCALARS) <= 30


def test_what_a_report_derives_is_a_metric_of_each_training(uri: str, name: str, tmp_path: Path):
    storage, plan = write_study(tmp_path, name)
    with claim(storage) as launch:
        publish(Store(storage), launch)
    for _ in range(2):  # the second time there is nothing to send
        sync(storage, uri)
    storage.write("report.html", storage.read("report.html") + b" ")
    sync(storage, uri)  # of another report the same numbers are not sent again
    wanted = scalars(storage)
    assert wanted.keys() == {run["run"] for run in plan["runs"]}
    for run in runs_of(uri, name):
        found = {key: curve for key, curve in points(uri, run).items() if key.startswith("derived/")}
        expected = wanted[run.data.tags["tangentscope.run"]]
        assert found == {f"derived/{key}": [(4, pytest.approx(value))] for key, value in expected.items()}
        assert {"derived/trace_ratio", "derived/test_loss_least"} <= found.keys()
