import copy
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store

Study = tuple[Storage, dict[str, Any]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([100, "full"], ["100", '"full"']),
        ([1, 0.5], [1, 0.5]),
        ([True, 2], ["true", "2"]),
        ([{"name": "cosine"}, None], ["cosine", None]),
        (["relu", None], ["relu", None]),
    ],
)
def test_a_field_varied_over_values_of_several_kinds_is_a_column(values: list, shown: list, finished: Study):
    storage, plan = finished[0], copy.deepcopy(finished[1])
    for run, value in zip(plan["runs"], values, strict=True):
        run["varied"]["model.width"] = value
    storage.write_json(layout.PLAN, plan)
    Store(storage).publish("compact")
    whole = pq.read_table(pa.BufferReader(storage.read("measurements.parquet"))).to_pandas()
    by_run = whole.groupby("run")["model.width"].first()
    found = [by_run.get(run["run"]) for run in plan["runs"]]
    assert [None if value is None or value != value else value for value in found] == shown


@pytest.mark.parametrize("field", ["model", "task"])
@pytest.mark.parametrize("values", [["mlp-3", "cnn"], [{"name": "mlp", "width": 3}, {"name": "cnn"}]])
def test_a_part_that_varies_whole_is_one_column(field: str, values: list, finished: Study):
    """The second values are as earlier versions wrote them."""
    storage, plan = finished[0], copy.deepcopy(finished[1]) | {"varied": [field]}
    for run, value in zip(plan["runs"], values, strict=True):
        run["varied"] = {field: value}
    storage.write_json(layout.PLAN, plan)
    Store(storage).publish("compact")
    for table in ("measurements", "history", "spectra"):
        whole = pq.read_table(pa.BufferReader(storage.read(f"{table}.parquet"))).to_pandas()
        assert whole.columns.is_unique
        assert dict(whole.groupby("run")[field].first()) == {
            plan["runs"][0]["run"]: "mlp-3",
            plan["runs"][1]["run"]: "cnn",
        }
