"""A store that was damaged by hand: the same command makes again what it can, says so, and no value is wrong."""

from pathlib import Path

import numpy as np
import pytest
from pandas import DataFrame

from tangentscope import pipeline
from tangentscope.pipeline.store import run_files, tables

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Networks of the same shapes, so that nothing but identities tells their files apart.
TWO = {
    "model": {"name": "mlp", "depth": 3, "width": 4},
    "grid": {},
    "seeds": 2,
    "resources": {"train": {"together": False}},
}


def values(out: Path, table: str) -> DataFrame:
    frame = pipeline.load(out, table).set_index(tables.KEYS[table]).sort_index()
    return frame["eigenvalues" if table == "spectra" else "value"]


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def remove_parts(out: Path, table: str) -> list[str]:
    parts = [*(out / "tables" / table).glob("*.parquet")]
    for part in parts:
        part.unlink()
    return [part.name for part in parts]


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_same_command_mends_a_damaged_store(launch, tmp_path):
    out = tmp_path / "small"
    done = launch(out, "--offline", **TWO)
    done.finish()
    storage, runs = done.storage, [run.id for run in done.store.runs]
    before = {table: values(out, table) for table in ("measurements", "spectra", "history")}

    # A spectrum is gone; its values stand, and are measured again for it.
    spectra = remove_parts(out, "spectra")
    said = launch(out, "--offline", **TWO).finish()
    assert all(f"tables/spectra/{name}: missing" in said for name in spectra)
    assert "retrain" not in said

    # Snapshots of two runs and the points of two splits are exchanged, and everything is to be measured again.
    last = [run_files.snapshot(run, run_files.current_snapshots(storage, run)[-1]) for run in runs]
    swap(*(out / name for name in last))
    points = sorted((out / "points").glob("*.safetensors"))
    swap(*points)
    remove_parts(out, "measurements")
    said = launch(out, "--offline", **TWO).finish()
    assert all(f"{name}: foreign" in said for name in last)
    assert all(f"points/{file.name}: foreign" in said for file in points)
    assert "retrain seed=0, seed=1" in said

    for table, expected in before.items():
        found = values(out, table)
        assert found.index.tolist() == expected.index.tolist()
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    # Loss and score come from training alone.
    history = remove_parts(out, "history")
    for _ in range(2):
        said = launch(out, "--offline", **TWO).finish(code=1)
        assert all(f"tables/history/{name}: missing" in said for name in history)
