"""A study whose results lie on S3: trained, measured, looked at and freed as on a disk."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from processes import s3_server
from small_study import SMALL, keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import claim
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError

pytestmark = pytest.mark.ray


@pytest.fixture
def bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """Options of a URI in an empty bucket called ``bucket``, and the environment for it."""
    with s3_server("bucket") as found:
        yield found


@pytest.mark.slow
def test_a_study_on_s3_is_the_study_on_a_disk(launch, undisturbed, bucket, monkeypatch: pytest.MonkeyPatch):
    options, environment = bucket
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    out = f"s3://bucket/studies/small{options}"
    there = launch(out, "--offline", env=environment)
    printed = there.finish()
    assert f"report    s3://bucket/studies/small/report.html{options}" in printed

    store = Store(Storage.at(out))
    assert sorted(keys(pipeline.load(out))) == sorted(planned_keys(store))
    for table, key in (("measurements", ["run", "step", "probe", "variable"]), ("history", ["run", "step", "split"])):
        ours, theirs = (
            pipeline.load(one, table).set_index([*key, *({"variable"} - set(key))])["value"].sort_index()
            for one in (undisturbed.out, out)
        )
        assert ours.index.tolist() == theirs.index.tolist()
        np.testing.assert_array_equal(ours.to_numpy(), theirs.to_numpy())

    assert "2 finished; " in there.command("status")
    names = [name for run in store.runs for name in run_files.current_snapshots(store.storage, run.id)]
    assert f"freed {len(names) - 4} snapshots" in there.command("gc", "--keep", "ends")
    assert "2 runs finished, 0 failed, in" in launch(out, "--offline", env=environment).finish()
    beside = {path.name for path in Path.cwd().iterdir()}
    assert not beside & {"s3:", SMALL["name"]}, "nothing was written beside the bucket"


def test_of_many_launches_at_once_never_two_hold_a_place_on_s3(bucket, monkeypatch: pytest.MonkeyPatch):
    options, environment = bucket
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    for number in range(10):
        storage, barrier = Storage.at(f"s3://bucket/{number}{options}"), threading.Barrier(6)

        def launch(storage: Storage = storage, barrier: threading.Barrier = barrier) -> int:
            barrier.wait(60)
            try:
                with claim(storage) as mine:
                    barrier.wait(60)  # holds it until all have decided
                    return mine.epoch
            except UserError:
                barrier.wait(60)
                return 0

        with ThreadPoolExecutor(6) as pool:
            held = [epoch for epoch in [each.result() for each in [pool.submit(launch) for _ in range(6)]] if epoch]
        assert len(held) <= 1
        assert len([name for name in storage.list("launches") if name.endswith(".json")]) == len(held)
        with claim(storage) as mine:
            assert mine.epoch > max(held, default=0)


def test_a_status_file_on_s3_is_read_whole_while_it_is_replaced(bucket, monkeypatch: pytest.MonkeyPatch):
    options, environment = bucket
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    storage = Storage.at(f"s3://bucket/study{options}")
    stop = threading.Event()

    def change() -> None:
        for length in itertools.cycle((1, 30, 7)):
            if stop.is_set():
                return
            storage.write_json("launches/000001.beat", {"at": "x" * length})
            if length == 7:
                storage.remove("launches/000001.beat")

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            seen = [storage.read_json("launches/000001.beat") for _ in range(300)]
        finally:
            stop.set()
        changing.result()
    assert all(value is None or set(value["at"]) == {"x"} for value in seen)
