"""A few snapshots are measured in the launch's own process: the same rows, each once, and what fails fails alike."""

import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from trained_study import VARIABLES, Finished, finish

from tangentscope.pipeline.cluster import in_process
from tangentscope.pipeline.config.resources import ProbePool
from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.launch import Launch, claim
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.system.errors import Fenced, Stopped

KEYS = tables.KEYS["measurements"]


@pytest.fixture
def trained(tmp_path: Path) -> Finished:
    return finish(tmp_path, {"name": "mlp", "depth": 2}, {"draws": 2, "size": 4}, [3, 5])


def no_wait(status: HubStatus) -> None: ...


def values(frame: pd.DataFrame) -> dict[tuple, float]:
    assert len(frame) == len(frame.drop_duplicates(KEYS))
    return {tuple(row[key] for key in KEYS): row["value"] for row in frame.to_dict("records")}


def by_a_prober(trained: Finished) -> dict[tuple, float]:
    measurer = Measurer(trained.storage, trained.plan)
    snapshots = len(trained.runs[0].schedule)
    jobs = [trained.job(run, k) for run in range(len(trained.runs)) for k in range(snapshots)]
    return values(pd.DataFrame([row for job in jobs for row in measurer.measure(job)["measurements"]]))


def test_every_value_is_measured_once_and_as_a_prober_would(trained: Finished):
    with claim(trained.storage) as launch:
        assert in_process.measured_here(launch, ProbePool(), no_wait)
        measured = values(Store(trained.storage).measurements())
        assert measured == by_a_prober(trained)
        assert {key[KEYS.index("variable")] for key in measured} == set(VARIABLES)
        before = tables.part_names(trained.storage, "measurements")
        assert in_process.measured_here(launch, ProbePool(), no_wait)
        assert tables.part_names(trained.storage, "measurements") == before  # nothing was left to do


def test_what_would_take_long_is_left_to_ray(trained: Finished, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(in_process, "_WORTH_SECONDS", 0.0)
    with claim(trained.storage) as launch:
        assert not in_process.measured_here(launch, ProbePool(), no_wait)
        some = values(Store(trained.storage).measurements())
        monkeypatch.undo()
        assert in_process.measured_here(launch, ProbePool(), no_wait)
    every = values(Store(trained.storage).measurements())
    assert some.items() <= every.items()
    assert every == by_a_prober(trained)


def test_a_prober_with_a_gpu_is_rays(trained: Finished):
    assert not in_process.measured_here(Launch(trained.storage, 1), ProbePool(gpu=1), no_wait)
    assert Store(trained.storage).measurements().empty


def test_what_cannot_be_measured_fails_with_its_cause(trained: Finished, monkeypatch: pytest.MonkeyPatch):
    def broken(self: Measurer, job: Any) -> Any:
        raise ValueError("no kernel of this")

    monkeypatch.setattr(Measurer, "measure", broken)
    with claim(trained.storage) as launch:
        assert in_process.measured_here(launch, ProbePool(), no_wait)
    frame = Store(trained.storage).measurements()
    assert set(frame["state"]) == {"failed"}
    assert set(frame["cause"]) == {"ValueError: no kernel of this"}


def test_a_launch_that_is_stopped_keeps_what_was_measured(trained: Finished, monkeypatch: pytest.MonkeyPatch):
    stopped, measure = threading.Event(), Measurer.measure
    jobs: list[Any] = []

    def one(self: Measurer, job: Any) -> Any:
        jobs.append(job)
        if len(jobs) > 1:
            stopped.wait(60.0)
        return measure(self, job)

    def stop(status: HubStatus) -> None:
        if sum(status.measured.values()):
            raise Stopped("SIGINT: stopped")

    monkeypatch.setattr(Measurer, "measure", one)
    with claim(trained.storage) as launch:
        with pytest.raises(Stopped, match="SIGINT"):
            in_process.measured_here(launch, ProbePool(), stop)
        stopped.set()
        assert len(Store(trained.storage).measurements()) == len(jobs[0].wanted) * len(VARIABLES)
        assert in_process.measured_here(launch, ProbePool(), no_wait)
    assert values(Store(trained.storage).measurements()) == by_a_prober(trained)


def test_one_that_was_taken_over_publishes_nothing(trained: Finished):
    with claim(trained.storage) as launch:
        trained.storage.write("launches/000002.json", b"{}")
        with pytest.raises(Fenced):
            in_process.measured_here(launch, ProbePool(), no_wait)
    assert Store(trained.storage).measurements().empty
