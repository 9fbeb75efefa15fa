"""Figures and claims of models that have a closed form, of studies that are really trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from really_trained import trained

from tangentscope.models.solvable.scaling import EXPONENTS
from tangentscope.pipeline.report.claims import CLAIMS
from tangentscope.pipeline.report.figures import FIGURES
from tangentscope.pipeline.report.scaling import Law, laws
from tangentscope.pipeline.report.solvable import skill_runs, solvable_runs
from tangentscope.pipeline.report.view import View

FULL: dict[str, Any] = {"batch_size": "full", "evaluate_every": 10**6}
GAUSSIAN = {"name": "gaussian_linear", "scales": [1, 1, 1], "variances": [2, 1, 0.5], "train_size": 20}
SKILLS = {"name": "skills", "skills": 3000, "endless": True}
MULTILINEAR = {"name": "multilinear", "size": 0.1}
WIDTHS = [10, 18, 32, 56, 100, 178, 316, 562, 1000]


def verdicts(view: View, claim: str) -> list[str]:
    return [finding.verdict for finding in CLAIMS[claim](view)]


@pytest.fixture(scope="module")
def dynamics(tmp_path_factory: pytest.TempPathFactory) -> View:
    return trained(
        tmp_path_factory.mktemp("dynamics"),
        task=GAUSSIAN,
        train={"epochs": 300, **FULL},
        probes={
            **{"schedule": {"every": {"steps": 4}}, "kernel": {"draws": 1, "size": 2}, "variables": ["trace"]},
            "splits": ["test"],
        },
        grid={
            "model": [{"name": "linear"}, {"name": "diagonal_linear"}],
            "optimiser": [{"name": "flow", "lr": 0.1}, {"name": "sgd", "lr": 0.1}],
        },
    )


def test_flow_and_descent_are_where_the_closed_form_says(dynamics: View):
    found = CLAIMS["closed_forms"](dynamics)
    assert [finding.verdict for finding in found] == ["held"] * 4
    assert all(finding.values[0] < 1e-5 for finding in found if finding.statement.startswith("Flow"))
    assert all(0.001 < finding.values[0] < 0.5 for finding in found if finding.statement.startswith("Descent"))


def test_layers_learn_one_mode_after_another_and_a_linear_model_does_not(dynamics: View):
    found = CLAIMS["stage_like"](dynamics)
    assert [finding.verdict for finding in found] == ["held"] * 4
    layered = [finding.values[0] for finding in found if "one after" in finding.statement]
    # Nam eq. 3.12 of two modes: (S/R(0) − 1)^(−q) at level ε, q = 1/3, a little less at 0.05.
    assert layered == pytest.approx([0.0427, 0.0427], abs=0.004)


def test_a_start_that_is_not_small_is_not_stage_like(tmp_path: Path):
    view = trained(
        tmp_path,
        task=GAUSSIAN,
        model={"name": "diagonal_linear", "size": 0.3},
        optimiser={"name": "flow", "lr": 0.1},
        train={"epochs": 200, **FULL},
    )
    assert verdicts(view, "stage_like") == ["failed"]
    assert verdicts(view, "closed_forms") == ["held"]


def test_what_is_not_the_closed_form_is_told(tmp_path: Path):
    """Steps so long that descent hops across the minimum."""
    view = trained(
        tmp_path,
        task={**GAUSSIAN, "variances": [1.9, 1, 0.5]},
        model={"name": "diagonal_linear", "size": 0.8},
        optimiser={"name": "sgd", "lr": 0.6},
        train={"epochs": 60, **FULL},
    )
    (finding,) = CLAIMS["closed_forms"](view)
    assert finding.values[0] > 0.01


def test_modes_are_drawn_over_their_closed_forms(dynamics: View):
    (drawing,) = FIGURES["mode_strengths"](dynamics)
    panels = [axes for axes in drawing.figure.axes if axes.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == [
        "(a) linear, gaussian linear",
        "(b) diagonal linear, gaussian linear",
    ]
    lines = [line for line in panels[1].lines if line.get_linestyle() == "-"]
    marks = [line for line in panels[1].lines if line.get_linestyle() == "None"]
    assert (len(lines), len(marks)) == (3, 6)
    for line, mark in zip(lines, marks[::2], strict=True):
        x, y = (np.asarray(data, float) for data in mark.get_data())
        np.testing.assert_allclose(y, np.interp(x, *line.get_data()), atol=0.01)


def test_momentum_and_schedules_have_no_closed_form(tmp_path: Path):
    view = trained(
        tmp_path,
        task=GAUSSIAN,
        model={"name": "linear"},
        optimiser={"name": "sgd", "lr": 0.05, "momentum": 0.5},
        train={"epochs": 4, **FULL},
    )
    assert list(solvable_runs(view)) == []
    assert FIGURES["mode_strengths"](view) == []


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> View:
    samples, draws = [100, 316, 1000], 20
    data = [(d, s) for d in samples for s in range(draws)]
    return trained(
        tmp_path_factory.mktemp("scaling"),
        task=SKILLS,
        model=MULTILINEAR,
        train={**FULL},
        zip={
            "optimiser.name": ["solution"] * len(WIDTHS) + ["sgd"] + ["solution"] * len(data),
            "optimiser.lr": [100.0] * len(WIDTHS) + [0.05] + [1e5] * len(data),
            "train.epochs": [3000] * len(WIDTHS) + [1500] + [10] * len(data),
            "model.skills": [*WIDTHS, 100, *[1000] * len(data)],
            "task.samples": [None] * (len(WIDTHS) + 1) + [d for d, _ in data],
            "task.data_seed": [0] * (len(WIDTHS) + 1) + [s for _, s in data],
        },
        probes={
            **{"schedule": {"kind": "log", "points": 60}, "kernel": {"draws": 1, "size": 2}, "variables": ["trace"]},
            **{"splits": ["test"], "keep": "ends"},
        },
    )


def test_exponents_are_those_of_the_table(scaling: View):
    found = CLAIMS["scaling_exponents"](scaling)
    assert {finding.statement.split()[4] for finding in found} == set(EXPONENTS)
    assert [finding.verdict for finding in found] == ["held"] * 4
    (data,) = [finding for finding in found if "with data" in finding.statement]
    assert len(data.samples) == 20
    assert len(set(data.values)) == 20


def test_a_loss_over_time_is_that_of_the_closed_form(scaling: View):
    (finding,) = CLAIMS["learning_curves"](scaling)
    assert finding.verdict == "held"
    assert 1e-3 < finding.values[0] < 0.5


def test_laws_are_drawn_with_the_powers_of_the_table(scaling: View):
    (drawing,) = FIGURES["scaling_laws"](scaling)
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes]
    assert titles == ["(a) Time", "(b) Data", "(c) Parameters", "(d) Compute"]
    for law, panel in zip(("time", "data", "parameters", "compute"), drawing.figure.axes, strict=True):
        (dotted,) = [line for line in panel.lines if line.get_linestyle() == ":"]
        x, y = (np.log(np.asarray(data, float)) for data in dotted.get_data())
        np.testing.assert_allclose(np.diff(y) / np.diff(x), EXPONENTS[law](0.6), rtol=1e-6)


def test_runs_that_are_not_through_make_no_law_of_parameters(scaling: View):
    by_parameters = next(law for law in laws(skill_runs(scaling)) if law.bottleneck == "parameters")
    assert by_parameters.amounts.tolist() == WIDTHS[:-1] or by_parameters.amounts.tolist() == WIDTHS
    early = Law("time", np.array([1.0, 2.0]), np.array([2.0, 1.0]), 0.6)
    assert early.slope() is None


def test_a_finite_number_of_skills_falls_faster_than_the_pure_law(tmp_path: Path):
    view = trained(
        tmp_path,
        task={"name": "skills", "skills": 5000, "alpha": 0.1},
        model=MULTILINEAR,
        optimiser={"name": "solution", "lr": 1},
        train={"epochs": 10000, **FULL},
        probes={
            **{"schedule": {"kind": "log", "points": 40}, "kernel": {"draws": 1, "size": 2}, "variables": ["trace"]},
            **{"splits": ["test"], "keep": "ends"},
        },
    )
    (finding,) = CLAIMS["finite_number"](view)
    assert finding.verdict == "held"
    (drawing,) = FIGURES["finite_size"](view)
    (panel,) = drawing.figure.axes
    solid, dashed, dotted = panel.lines
    values = [np.log(np.asarray(line.get_ydata(), float)) for line in (solid, dashed, dotted)]
    assert np.abs(values[1] - values[0]).max() < np.abs(values[2] - values[0]).max() / 2
    assert FIGURES["scaling_laws"](view), "the law of time alone"


def test_one_number_decides_where_nothing_is_drawn(dynamics: View):
    found = CLAIMS["closed_forms"](dynamics)[0]
    assert found.fewest == 1
    assert found.interval == (found.values[0], found.values[0])
