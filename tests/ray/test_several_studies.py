"""Several studies given to one `run`: each with results of its own, the first before the others."""

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_study import SMALL, keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store

pytestmark = pytest.mark.ray


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another study: four seeds of one width, long enough to be tried together."""
    file = tmp_path / "other.yaml"
    changes: dict[str, Any] = {"name": "other", "grid": {}, "seeds": 4, "model": {**SMALL["model"], "width": 8}}
    file.write_text(yaml.safe_dump({**SMALL, **changes, "train": {"epochs": 10, "batch_size": 50}}))
    return file


def begun(out: Path) -> list[float]:
    store = Store(Storage.at(out))
    return sorted(
        store.storage.read_json(f"runs/{run.id}/attempts/{name}")["started_at"]
        for run in store.runs
        for name in store.storage.list(f"runs/{run.id}/attempts")
    )


def claimed_until(out: Path) -> float:
    return Storage.at(out).read_json("launches/000001.beat")["at"]


def test_two_studies_share_a_cluster_by_their_order(launch: Any, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    printed = launch(out, str(other), "--offline").finish()
    published = (out / "other" / "report.html").stat().st_mtime
    assert claimed_until(out / "small") < published < claimed_until(out / "other"), "each is free once it has ended"
    assert "small: width=" in printed
    assert "other: " in printed  # lines say which study they are of
    for name in ("small", "other"):
        store = Store(Storage.at(out / name))
        frame = pipeline.load(out / name)
        assert sorted(keys(frame)) == sorted(planned_keys(store))
        assert {outcome.state for outcome in store.outcomes().values()} == {"finished"}
        assert (out / name / "report.html").exists()
        assert f"tables    {out / name / 'measurements.parquet'}" in printed.replace("\n", "")
    assert begun(out / "small")[0] < begun(out / "other")[0]  # on more cores than both need they go on side by side


@pytest.mark.slow
def test_a_signal_stops_all_and_the_same_command_goes_on(launch: Any, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    stopped = launch(out, str(other), "--offline", "train.epochs=2000")
    stopped.until(lambda: list(out.glob("small/runs/*/attempts/*.json")))
    stopped.process.send_signal(signal.SIGTERM)
    assert "SIGTERM: stopped" in stopped.finish(code=130)
    for name in ("small", "other"):
        assert Store(Storage.at(out / name)).outcomes() == {}


def test_two_studies_of_one_name_are_refused(launch: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = launch(tmp_path / "results", "quickstart", "quickstart", "--offline")
    assert "asked for twice; give every study a name of its own" in first.finish(code=2)
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results" / "quickstart").glob("launches/*"))
