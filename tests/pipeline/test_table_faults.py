"""Parts of tables that are gone, damaged or of something else: never read for what they are not, and always told."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from study_on_disk import Row, history_rows, measurement_rows, write_study

from tangentscope import pipeline
from tangentscope.pipeline.cli import progress
from tangentscope.pipeline.report import write_report
from tangentscope.pipeline.store import layout, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.integrity import table_faults
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.mending import mend_tables
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.reader import Store

Study = tuple[Storage, Row]


def told(storage: Storage, table: str) -> list[str]:
    """What `load` warns of, which `status` and the report must tell as well."""
    with pytest.warns(UserWarning, match="not among these rows") as caught:
        pipeline.load(storage.uri, table)
    return [str(warning.message).removeprefix(f"{storage.uri}: ") for warning in caught]


def shown(storage: Storage) -> str:
    console = Console(file=io.StringIO(), width=300, soft_wrap=True)
    progress.show(console, Store(storage), watch=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def whole(storage: Storage) -> dict[str, int]:
    return {table: len(pipeline.load(storage.uri, table)) for table in tables.SCHEMAS}


@pytest.fixture(params=["parts", "compacted"])
def study(request: pytest.FixtureRequest, finished: Study) -> Study:
    layout.identify(finished[0])
    if request.param == "compacted":
        Store(finished[0]).publish("compact-000001")
    return finished


@pytest.mark.filterwarnings("error")
def test_a_whole_store_is_told_nothing_of(study: Study):
    assert whole(study[0]) == {"measurements": 48, "spectra": 16, "profiles": 16, "history": 32, "snapshots": 8}
    assert [
        fault
        for table in tables.SCHEMAS
        for fault in table_faults(study[0], Plan.from_json(study[1]), table, thorough=True)
    ] == []


@pytest.mark.parametrize("table", tables.SCHEMAS)
def test_a_part_that_is_gone_is_told_until_its_rows_are_there_again(table: str, study: Study):
    storage, _ = study
    rows = len(pipeline.load(storage.uri, table))
    name = tables.part_names(storage, table)[0]
    data = storage.read(name)
    storage.remove(name)
    gone = rows - len(Store(storage).table(table).frame)
    line = f"{name}: missing ({gone} rows)"
    assert told(storage, table) == [f"{line}: not among these rows"]
    assert line in shown(storage)
    Store(storage).publish("compact-000002")  # the next launch's end
    after = told(storage, table)
    assert len(after) == 1
    assert f"{gone} rows" in after[0]
    storage.write(name, data)
    Store(storage).publish("compact-000003")
    assert len(pipeline.load(storage.uri, table)) == rows
    assert Store(storage).faults(table) == []


def test_the_report_says_what_is_missing(finished: Study):
    storage, _ = finished
    gone = tables.part_names(storage, "history")[0]
    storage.remove(gone)
    damaged = tables.part_names(storage, "snapshots")[0]
    storage.write(damaged, b"PAR1")
    write_report(storage)
    page = storage.read(layout.REPORT).decode()
    assert f'<li class="failed">{gone}: missing (4 rows)</li>' in page
    assert f'<li class="failed">{damaged}: damaged (' in page
    assert "Nothing: every run finished" not in page


@pytest.mark.parametrize("table", tables.SCHEMAS)
def test_a_damaged_part_is_left_out_and_set_aside_by_the_next_launch(table: str, study: Study):
    storage, plan = study
    name = tables.part_names(storage, table)[0]
    data = bytearray(storage.read(name))
    data[len(data) // 3] ^= 1
    storage.write(name, bytes(data))
    assert f"{name}: damaged (its content is not what was written): not among these rows" in told(storage, table)
    [line] = list(mend_tables(Launch(storage, 1), Plan.from_json(plan)))
    assert line.startswith(f"{name}: damaged")
    assert storage.read(f"{name}.damaged") == bytes(data)
    assert any("missing" in line for line in told(storage, table))


@pytest.mark.parametrize("source", ["spectra", "profiles", "history", "snapshots"])
def test_a_part_of_another_table_is_not_read(source: str, study: Study):
    storage, _ = study
    foreign = tables.part_names(storage, source)[0]
    target = "history" if source == "snapshots" else "measurements"
    rows = len(pipeline.load(storage.uri, target))
    name = f"tables/{target}/{foreign.rpartition('/')[2]}"
    storage.write(name, storage.read(foreign))
    line = f"{name}: foreign (a part of table {source} by {name.rpartition('/')[2].rpartition('-')[0]})"
    assert told(storage, target) == [f"{line}: not among these rows"]
    assert len(Store(storage).table(target).frame) == rows
    assert f"{name}: foreign" in shown(storage)
    Store(storage).publish("compact-000009")
    assert storage.exists(name), "nobody removes what is not his"
    assert len(Store(storage).table(target).frame) == rows


def test_a_part_of_another_store_is_not_read(finished: Study, tmp_path: Path):
    for storage in (finished[0], Storage.at(tmp_path / "other")):
        layout.identify(storage)
    other, _ = write_study(tmp_path / "other")
    rows = history_rows(finished[1]["runs"][0], 4, value=9e9, attempt=7)
    name = tables.write_part(other, "history", rows, "theirs")
    assert name is not None
    finished[0].write(name, other.read(name))
    [line] = told(finished[0], "history")
    assert line.startswith(f"{name}: foreign (a part of another store")
    assert 9e9 not in set(Store(finished[0]).history()["value"])


def plain(storage: Storage, table: str, rows: list[Row]) -> str:
    """A part as older versions wrote it."""
    name = f"tables/{table}/hub-0123456789ab.parquet"
    storage.write(name, tables.to_parquet(pa.Table.from_pylist(rows, schema=tables.SCHEMAS[table])))
    return name


@pytest.mark.filterwarnings("error")
def test_parts_of_an_older_version_are_read_and_their_table_is_still_looked_at(planned: Study):
    storage, plan = planned
    plain(storage, "history", history_rows(plan["runs"][0], 4))
    assert len(pipeline.load(storage.uri, "history")) == 4
    assert Store(storage).faults("history") == []
    name = plain(storage, "measurements", history_rows(plan["runs"][0], 4))
    old = pa.Table.from_pylist(history_rows(plan["runs"][0], 4), schema=tables.SCHEMAS["history"])
    storage.write(name, tables.to_parquet(old))
    assert [str(fault) for fault in Store(storage).faults("measurements")] == [
        f"{name}: foreign (a part of another table)"
    ]
    assert len(Store(storage).table("measurements").frame) == 0


def test_a_part_says_what_it_is_of(study: Study):
    storage, _ = study
    for table in tables.SCHEMAS:
        for name in tables.part_names(storage, table):
            file = pq.ParquetFile(pa.BufferReader(storage.read(name)))
            carried = file.schema_arrow.metadata[b"tangentscope"].decode()
            assert f'"table": "{table}"' in carried
            assert f'"rows": {file.metadata.num_rows}' in carried


ROWS: dict[str, Any] = {"one too many": {"valeu": 1.0}, "one too few": {"value": ...}}


@pytest.mark.parametrize("change", ROWS)
def test_a_row_with_other_columns_is_refused(change: str, planned: Study):
    storage, plan = planned
    row = measurement_rows(plan, plan["runs"][0], 4)[0] | ROWS[change]
    row = {name: value for name, value in row.items() if value is not ...}
    wrong = "valeu" if "many" in change else "no value"
    with pytest.raises(ValueError, match=f"a row for the table measurements: got {wrong}, expected all of attempt"):
        tables.write_part(storage, "measurements", [row], "hub")
    assert tables.part_names(storage, "measurements") == []


def test_a_damaged_manifest_is_told_and_its_parts_are_still_read(finished: Study):
    storage, _ = finished
    file = "manifests/history/" + storage.list("manifests/history")[0]
    storage.write(file, storage.read(file).replace(b"hub", b"bub").replace(b"[", b"(", 1))
    assert told(storage, "history") == [f"{file}: damaged (its content is not what was written): not among these rows"]
    assert len(Store(storage).history()) == 32
