"""Emergence and grokking: what claims say of made-up curves, and what figures draw of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tangentscope.models.solvable.multilinear import strengths_over_time
from tangentscope.models.solvable.skill_bases import printed_strengths_over_data, strengths_over_data
from tangentscope.pipeline.report.claims import CLAIMS
from tangentscope.pipeline.report.claims.decided import decide
from tangentscope.pipeline.report.emergence import emergences
from tangentscope.pipeline.report.figures import FIGURES
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study

PARITY = {"name": "sparse_parity", "train_size": 50, "test_size": 50}
Curve = Callable[[Run, int], dict[str, dict[str, float]]]


def made_up(place: Path, curve: Curve, **study: Any) -> View:
    """A study whose history is a function of run and step: of each split, the values by their names."""
    probes = {"schedule": {"kind": "log", "points": 40}, "kernel": {"draws": 1, "size": 2}, "variables": ["trace"]}
    parts = {"model": {"name": "mlp", "width": 3}, "optimiser": {"name": "sgd", "lr": 0.05}}
    described = Study.model_validate({"name": "made-up", "probes": probes, **parts, **study})
    storage, runs = Storage.at(place), make_runs(described, None)
    study_plan(described, runs, 1).write(storage)
    rows = []
    for run in runs:
        for step in run.schedule:
            about = {"run": run.id, "attempt": 1, "step": step, "epoch": step / run.epoch_steps, "recorded_at": 1.0}
            for split, values in curve(run, step).items():
                rows += [about | {"split": split, "variable": name, "value": value} for name, value in values.items()]
        storage.write_json(run_files.outcome(run.id), Outcome("finished", 1.0, started_at=0.0).to_json())
    tables.write_part(storage, "history", rows, "train")
    return View(storage)


def over_time(gain: float, shuffled: bool = False) -> Curve:
    def curve(run: Run, step: int) -> dict[str, dict[str, float]]:
        task: Any = run.task
        time = 0.05 * step * (1 + 0.01 * run.seed)
        found = strengths_over_time(time, task.frequencies(), task.scale, 0.002 * task.scale, gain) / task.scale
        found = found[::-1] if shuffled else found
        return {"test": {f"strength_{k}": value for k, value in enumerate(found, 1)}}

    return curve


LONG = {"task": PARITY, "train": {"epochs": 20000, "batch_size": "full"}, "grid": {"task.skills": [5, 1]}, "seeds": 5}


def test_what_the_model_says_is_in_order_and_predicted_by_one_skill(tmp_path: Path):
    view = made_up(tmp_path, over_time(1 / 22), **LONG)
    for claim in ("emergence_order", "emergence_predicted", "emergence_calibration"):
        (finding,) = CLAIMS[claim](view)
        assert finding.verdict == "held", claim
        assert len(finding.values) == 5
    found = emergences(view)
    assert found is not None
    assert (found.resource, len(found.several), len(found.single)) == ("time", 5, 5)
    assert found.calibration.constant == pytest.approx(1 / 22, rel=0.1)
    assert found.calibration.start == pytest.approx(0.002, rel=0.25)


def test_another_speed_is_calibrated_away_but_told(tmp_path: Path):
    view = made_up(tmp_path, over_time(1 / 5), **LONG)
    assert CLAIMS["emergence_predicted"](view)[0].verdict == "held"
    assert CLAIMS["emergence_calibration"](view)[0].verdict == "failed"


def test_skills_in_another_order_are_told(tmp_path: Path):
    view = made_up(tmp_path, over_time(1 / 22, shuffled=True), **LONG)
    assert CLAIMS["emergence_order"](view)[0].verdict == "failed"
    assert CLAIMS["emergence_predicted"](view)[0].verdict == "failed"
    assert CLAIMS["skills_displaced"](view)[0].verdict != "held", "all are learned in the end"


def by_data(formula: Callable[..., np.ndarray]) -> Curve:
    def curve(run: Run, step: int) -> dict[str, dict[str, float]]:
        task: Any = run.task
        found = formula(task.train_size * task.frequencies(), 1.0, 400)
        return {"test": {f"strength_{k}": value for k, value in enumerate(found, 1)}}

    return curve


DATA = {
    "task": PARITY,
    "train": {"epochs": 1, "batch_size": "full"},
    "grid": {"task.skills": [5, 1], "task.train_size": [50, 100, 200, 400, 800, 1600, 3200, 6400]},
    "seeds": 5,
}


def test_over_data_a_skill_tells_how_many_samples_it_takes(tmp_path: Path):
    view = made_up(tmp_path, by_data(strengths_over_data), **DATA)
    found = emergences(view)
    assert found is not None
    assert found.resource == "data"
    assert found.calibration.constant == pytest.approx(400, rel=0.05)
    (finding,) = CLAIMS["emergence_predicted"](view)
    assert finding.verdict == "held"
    assert finding.values[0] < 0.01
    assert "by eq. 5.5 as printed 0.06" in finding.samples[0].note


def test_the_printed_formula_is_drawn_beside_the_right_one(tmp_path: Path):
    view = made_up(tmp_path, by_data(printed_strengths_over_data), **DATA)
    (drawing,) = FIGURES["emergence"](view)
    several, single = drawing.figure.axes
    assert sum(line.get_linestyle() == ":" for line in several.lines) == 5
    _, solid, dotted = single.lines
    right, printed = (np.interp(200, *line.get_data()) for line in (solid, dotted))
    assert printed < right
    assert "D_c =" in drawing.caption


def accuracy(delay: float) -> Curve:
    def curve(run: Run, step: int) -> dict[str, dict[str, float]]:
        late = delay * (1 + 0.05 * run.seed) if run.varied.get("model.width") == 3 else 1.2
        times = {"train": 10.0, "test": 10.0 * late}
        return {split: {"accuracy": 0.05 + 0.95 * (step >= time)} for split, time in times.items()}

    return curve


TABLE = {
    "task": {"name": "modular", "p": 5, "inputs": "numbers"},
    "train": {"epochs": 2000, "batch_size": "full"},
    "grid": {"model.width": [3, 4]},
    "seeds": 5,
}


@pytest.mark.parametrize(("delay", "verdict"), [(40.0, "held"), (2.0, "failed")])
def test_the_first_network_groks_and_the_others_are_cured(delay: float, verdict: str, tmp_path: Path):
    view = made_up(tmp_path, accuracy(delay), **TABLE)
    (grokked,), (cured,) = CLAIMS["grokking_delay"](view), CLAIMS["grokking_cured"](view)
    assert (grokked.verdict, cured.verdict) == (verdict, "held")
    assert "width=3" in grokked.statement
    assert "width=4" in cured.statement


def test_a_network_that_has_not_generalised_has_no_delay(tmp_path: Path):
    def curve(run: Run, step: int) -> dict[str, dict[str, float]]:
        return {"train": {"accuracy": 0.1 + 0.9 * (step > 10)}, "test": {"accuracy": 0.1 + 0.2 * (step > 1500)}}

    (finding,) = CLAIMS["grokking_delay"](made_up(tmp_path, curve, **TABLE))
    assert finding.verdict == "undecided"
    assert finding.samples[0].note == "has not generalised yet: accuracy 0.3000 on test, 1.000 on train"


def test_grokking_is_drawn_with_both_times(tmp_path: Path):
    view = made_up(tmp_path, accuracy(40.0), **TABLE)
    drawings = FIGURES["grokking"](view)
    assert len(drawings) == 2
    panel = drawings[0].figure.axes[0]
    train, test = (line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == ":")
    assert 10 <= train < 15
    assert 400 <= test < 600
    means = [line for line in panel.lines if line.get_label() in ("train", "test")]
    assert math.isclose(np.asarray(means[0].get_ydata(), float)[-1], 1.0)


@pytest.mark.parametrize(
    ("train", "test", "split"), [((0.0, 0.0), (0.0, 0.0), "train"), ((0.1, 1.0), (0.1, 0.1), "test")]
)
def test_a_network_that_stays_at_chance_has_no_delay(
    train: tuple[float, float], test: tuple[float, float], split: str, tmp_path: Path
):
    def curve(run: Run, step: int) -> dict[str, dict[str, float]]:
        return {"train": {"accuracy": train[step > 10]}, "test": {"accuracy": test[step > 10]}}

    (finding,) = CLAIMS["grokking_delay"](made_up(tmp_path, curve, **TABLE))
    assert finding.values == []
    assert finding.samples[0].note == f"nothing was learned on {split}"


def test_a_skill_that_is_not_seen_to_emerge_tells_no_constant(tmp_path: Path):
    view = made_up(tmp_path, lambda run, step: {"test": {f"strength_{k}": 0.01 for k in range(1, 6)}}, **LONG)
    for claim in ("emergence_calibration", "emergence_predicted"):
        (finding,) = CLAIMS[claim](view)
        assert finding.values == []
        assert {sample.note for sample in finding.samples} == {"one skill alone is not seen to emerge"}
        assert decide(view, [claim])[0][0].why_undecided == "one skill alone is not seen to emerge"
    assert FIGURES["emergence"](view)
