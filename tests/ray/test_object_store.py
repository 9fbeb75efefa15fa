"""A study whose results lie on S3: trained, measured, looked at and freed as on a disk."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import s3_server
from small_study import SMALL, keys, planned_keys

import pipeline
from pipeline import layout
from pipeline.storage import Storage
from pipeline.store import Store

pytestmark = pytest.mark.ray


@pytest.fixture
def bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """Options of a URI in an empty bucket called ``bucket``, and the environment for it."""
    with s3_server("bucket") as found:
        yield found


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
    names = [name for run in store.runs for name in layout.current_snapshots(store.storage, run["run"])]
    assert f"freed {len(names) - 4} snapshots" in there.command("gc", "--keep", "ends")
    assert "2 runs finished, 0 failed, in" in launch(out, "--offline", env=environment).finish()
    beside = {path.name for path in Path.cwd().iterdir()}
    assert not beside & {"s3:", SMALL["name"]}, "nothing was written beside the bucket"
