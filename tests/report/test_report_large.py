"""A report of many runs: tables that are cut short say so, and nothing of an earlier report stays behind."""

from pathlib import Path

import pandas as pd
import pytest
from synthetic_study import a_run, write_study

from tangentscope.pipeline.driver.report_options import options
from tangentscope.pipeline.report import ends, page, write_report
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError

NO_FIGURE = {"figures": ["layer_traces"]}  # which were not measured


def test_tables_beyond_a_length_are_cut_and_a_file_has_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    storage = write_study(tmp_path, [a_run(seed) for seed in range(3)], report=NO_FIGURE)
    assert "runs.csv" not in write_report(storage)
    monkeypatch.setattr(page, "MOST_ROWS", 2)
    assert "runs.csv" in write_report(storage)
    text = storage.read("report.html").decode()
    assert "Shown: the first 2 of 3" in text
    assert "seed=2</th>" not in text
    rows = pd.read_csv(tmp_path / "runs.csv")
    assert rows["name"].tolist() == ["seed=0", "seed=1", "seed=2"]
    assert {"loss_test", "score_train", "trace_end", "entropy_end", "regime", "copy_total"} <= set(rows.columns)


def test_every_variable_that_was_measured_has_its_last_value(tmp_path: Path):
    runs = [a_run(seed, **{"model.width": width}) for width in (8, 32) for seed in (0, 1)]
    view = View(write_study(tmp_path, runs, report=NO_FIGURE))
    test, train = ends.values_at_end(view)
    assert (test.split, train.split) == ("test", "train")
    assert test.variables == ["trace", "entropy", "effective_rank"]
    assert [name for name, _ in test.rows] == ["width=8", "width=32"]
    last = view.numbers[(view.numbers["split"] == "test") & (view.numbers["variable"] == "trace")]
    last = last[last["run"].isin([run["run"] for run in runs[:2]])].groupby("run")["value"].last()
    mean = test.rows[0][1][0]
    assert mean is not None
    assert mean.stderr is not None
    assert mean.value == pytest.approx(last.mean())
    assert mean.stderr == pytest.approx(last.sem())


def test_figures_that_are_asked_for_no_more_are_removed_and_others_stay(tmp_path: Path):
    storage = write_study(tmp_path, [a_run()])
    write_report(storage)
    storage.write("figures/mine.png", b"a figure of my own")
    assert {"curves.png", "effective_rank.png"} <= set(storage.list("figures"))
    write_report(storage, options(Store(storage), ["report.figures=[effective_rank]"]))
    assert storage.list("figures") == ["effective_rank.pdf", "effective_rank.png", "mine.png"]


@pytest.mark.parametrize("override", ["figures=[curves]", "report.figure=[curves]", "report.x=week", "report.x=[", "x"])
def test_an_override_that_does_not_hold(override: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"override|command line"):
        options(Store(write_study(tmp_path, [a_run()])), [override])
