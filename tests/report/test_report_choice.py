"""The epoch chosen by validation points: the first with their best score, and the test score there."""

import math
from pathlib import Path

import pytest
from synthetic_study import a_run, truth, write_study

from tangentscope.pipeline.report import formatting, summaries, write_report
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage

STEPS = (0, 32, 64, 96)


def study(root: Path, runs: list[dict], valid: dict[str, list[float]], **how) -> Storage:
    """Runs with a score on validation points in epochs 0, 1, 2 and 3, and one on test points."""
    no_figure = {"figures": ["layer_traces"]}  # which were not measured
    storage = write_study(root, [{**run, "schedule": STEPS} for run in runs], report=no_figure, **how)
    rows = [
        {"run": run["run"], "attempt": 1, "step": step, "epoch": step / 32, "split": "valid", "variable": "accuracy",
         "value": value, "recorded_at": 0.0}
        for run in runs for step, value in zip(STEPS, valid.get(run["name"], []), strict=False)
    ]  # fmt: skip
    tables.write_part(storage, "history", rows, "valid")
    return storage


def test_the_first_of_the_best_scores_is_chosen(tmp_path: Path):
    run = a_run()
    view = View(study(tmp_path, [run], {"seed=0": [0.2, 0.8, math.nan, 0.8]}))
    (row,) = summaries.run_rows(view)
    assert row.chosen == summaries.Chosen(at=1.0, valid=0.8, test=truth(run, "test", "accuracy", 32))


def test_without_validation_points_there_is_no_choice(tmp_path: Path):
    storage = study(tmp_path, [a_run()], {})
    (row,) = summaries.run_rows(View(storage))
    assert row.chosen is None
    write_report(storage)
    assert "best validation" not in storage.read("report.html").decode()


@pytest.mark.parametrize("scores", [[math.nan] * 4, []])
def test_without_a_number_there_is_no_choice(tmp_path: Path, scores: list[float]):
    (row,) = summaries.run_rows(View(study(tmp_path, [a_run()], {"seed=0": scores})))
    assert row.chosen is None


def test_the_page_has_the_choice_and_its_mean_over_seeds(tmp_path: Path):
    runs = [a_run(seed, **{"model.width": width}) for width in (8, 32) for seed in (0, 1)]
    valid = {run["name"]: [0.1, 0.9 - 0.1 * run["seed"], 0.3] for run in runs} | {"width=32 seed=1": [0.1, 0.2, 0.3]}
    storage = study(tmp_path, runs, valid, states={"width=32 seed=1": "failed"})
    write_report(storage)
    page = storage.read("report.html").decode()
    one, other, third = (truth(run, "test", "accuracy", 32) for run in runs[:3])
    spread = abs(one - other) / math.sqrt(2)
    assert (
        f"width=8: {formatting.number((one + other) / 2)}, "
        f"standard deviation {formatting.number(spread, 2)} over 2 seeds; "
        f"width=32: {formatting.number(third)}." in " ".join(page.split())
    )
    assert page.count(f"<td>{formatting.number(1.0)}</td><td>{formatting.number(0.9)}</td>") == 2
