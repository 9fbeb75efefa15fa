"""Runs that play: their axis counts episodes, and one figure shows actor, critic and return."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_study import SCHEDULE, a_run, probe, write_study

from tangentscope.pipeline.report.figures.reward import reward
from tangentscope.pipeline.report.page import write_report
from tangentscope.pipeline.report.view import Kernel, View
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage

ACTOR, CRITIC = (
    probe("train", probe=f"{part}-probe", part=part, draws=5, variables=["trace", "entropy"])
    for part in ("actor", "critic")
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Two seeds that play: three episodes a step for the one, four for the other."""
    runs = [a_run(seed) | {"probes": ["actor-probe", "critic-probe"]} for seed in (0, 1)]
    report = {"figures": ["reward", "effective_rank"], "x": "episode", "log_x": True}
    storage = write_study(tmp_path, runs, probes=[ACTOR, CRITIC], report=report)
    for run, rate in zip(runs, (3, 4), strict=True):
        about = {"run": run["run"], "attempt": 1, "split": "train", "variable": "episodes", "recorded_at": 0.0}
        rows = [about | {"step": step, "epoch": float(step), "value": rate * step} for step in range(0, 1201, 100)]
        tables.write_part(storage, "history", rows, "played")
    return storage


def test_positions_are_episodes_between_those_counted_and_nothing_beyond(storage: Storage):
    view = View(storage)
    assert view.x == "episode"
    kernel = Kernel("full", 5, 50, 0, "actor")
    assert kernel in view.kernels("trace")
    assert str(kernel) == "actor, full outputs, 5 draws of 50 points"
    for run, rate in zip(view.runs, (3, 4), strict=True):
        for curve in (view.curve(run, "train", "trace", kernel), view.curve(run, "test", "score", None)):
            assert curve["step"].tolist() == SCHEDULE
            known = curve[curve["step"] <= 1200]
            np.testing.assert_allclose(known["x"], rate * known["step"])
            assert curve[curve["step"] > 1200]["x"].isna().all()


def test_a_study_without_episodes_keeps_its_steps(tmp_path: Path):
    view = View(write_study(tmp_path, [a_run()], report={"figures": ["curves"], "x": "episode", "log_x": False}))
    assert view.x == "step"


def test_one_figure_has_actor_critic_and_return(storage: Storage):
    (drawing,) = reward(View(storage))
    entropy, trace, returns = drawing.figure.axes
    assert [text.get_text() for text in entropy.get_legend().get_texts()] == ["actor", "critic"]
    assert [text.get_text() for text in returns.get_legend().get_texts()] == ["while learning", "evaluation"]
    assert len(trace.get_lines()) == 4, "two parts, two seeds"
    assert (returns.get_xlabel(), returns.get_ylabel()) == ("Episode", "Accuracy")
    assert "CV fig. 3c" in drawing.caption
    assert "2 seeds" in drawing.caption


def test_the_report_shows_it_and_keeps_the_parts_apart_elsewhere(storage: Storage):
    names = write_report(storage)
    assert "figures/reward.png" in names
    page = storage.read("report.html").decode()
    assert "full, actor" in page
    assert "full, critic" in page


def test_without_its_variables_there_is_no_figure(tmp_path: Path):
    only = probe("train", variables=["effective_rank"])
    assert reward(View(write_study(tmp_path, [a_run() | {"probes": ["train-probe"]}], probes=[only]))) == []
