"""The made-up studies that scale is measured on are studies as any other, and reading costs no more than it should."""

from pathlib import Path

import pytest
from large_study import VARIABLES, large_study

from tangentscope.pipeline.cli import progress
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store


def test_a_made_up_study_is_whole(tmp_path: Path):
    storage, plan = large_study(tmp_path / "study", 3, 4)
    runs = progress.now(Store(storage))
    assert progress.summary(runs) == "3 finished; 12 of 12 snapshots, 144 of 144 values measured"
    assert len(Store(storage).measurements()) == 3 * 4 * 2 * len(VARIABLES)
    assert len(Store(storage).history()) == 3 * 4 * 4
    assert [Store(storage).faults(table) for table in tables.SCHEMAS] == [[]] * len(tables.SCHEMAS)
    assert len(plan["runs"]) == 3


def test_status_opens_as_many_files_of_tables_however_many_rows_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reads: list[str] = []
    plain = Storage.read
    monkeypatch.setattr(Storage, "read", lambda self, name: (reads.append(name), plain(self, name))[1])
    counts = []
    for steps in (3, 9):
        storage, _ = large_study(tmp_path / str(steps), 2, steps)
        reads.clear()
        progress.now(Store(storage))
        assert not [name for name in reads if name.endswith(".parquet")]
        counts.append(len(reads))
    assert counts[0] == counts[1]
