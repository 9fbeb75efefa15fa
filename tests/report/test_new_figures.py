"""Phase portrait, stacked traces, spectra and steps on new points: what they draw is what is on storage."""

import math
from pathlib import Path

import numpy as np
import pytest
from claimed_study import networks, study
from synthetic_study import EPOCH_STEPS, SCHEDULE, Row
from test_layer_traces import study as layered
from test_layer_traces import value as of_layer

from tangentscope.pipeline.report import spectra as reading
from tangentscope.pipeline.report.figures.new_points import new_points
from tangentscope.pipeline.report.figures.phase_portrait import phase_portrait
from tangentscope.pipeline.report.figures.spectrum import spectrum
from tangentscope.pipeline.report.figures.stacked_traces import stacked_traces
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage

SIDE = 6


def entropy(run: Row, step: int) -> float:
    return 2 - 0.1 * math.log1p(step) + 0.01 * run["seed"]


def trace(run: Row, step: int) -> float:
    return 100.0 + step + run["seed"]


def test_the_portrait_goes_from_the_start_to_the_end(tmp_path: Path):
    (drawing,) = phase_portrait(View(study(tmp_path, networks(seeds=3, model__width=[8, 32]), entropy, trace)))
    test, train = drawing.figure.axes
    assert [axis.get_title(loc="left") for axis in (test, train)] == ["(a) test", "(b) train"]
    means = [line for line in test.lines if line.get_linewidth() == 1.3 and line.get_marker() != "o"]
    assert len(means) == 2
    x, y = (np.asarray(data, dtype=float) for data in means[0].get_data())
    np.testing.assert_allclose(x, [101.0 + step for step in SCHEDULE])
    np.testing.assert_allclose(y, [entropy({"seed": 1}, step) for step in SCHEDULE])
    assert sum(line.get_linewidth() == 0.5 for line in test.lines) == 6, "single seeds"
    ends = [line for line in test.lines if line.get_marker() == "o"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in ends[:2]] == [x[0], x[-1]]
    assert "3 seeds" in drawing.caption


def test_no_portrait_without_a_trace(tmp_path: Path):
    assert phase_portrait(View(study(tmp_path, networks(seeds=1), variables=("entropy",)))) == []


def test_layers_are_stacked_up_to_the_whole_trace(tmp_path: Path):
    runs = networks(seeds=2)
    (drawing,) = stacked_traces(View(layered(tmp_path, runs)))
    panel = drawing.figure.axes[0]
    assert len(panel.collections) == 3
    top = panel.collections[-1].get_paths()[0].vertices
    whole = [
        np.mean([sum(of_layer(run, "test", step, draw, k) for k in range(3)) for run in runs for draw in range(2)])
        for step in SCHEDULE
    ]
    for step, expected in zip(SCHEDULE, whole, strict=True):
        at = top[np.isclose(top[:, 0], step / EPOCH_STEPS)]
        assert at[:, 1].max() == pytest.approx(expected)


def with_spectra(root: Path, runs: list[Row], decay: float = 2.0) -> Storage:
    storage = study(root, runs)
    rows = [
        {
            **{"run": run["run"], "attempt": 1, "step": step, "epoch": step / EPOCH_STEPS, "checksum": "c"},
            **{"probe": f"{split}-probe", "split": split, "outputs": "full", "draw": draw},
            "eigenvalues": [(1 + step) * (1 + draw) * decay**-k for k in range(SIDE)],
        }
        for run in runs
        for step in SCHEDULE
        for split in ("train", "test")
        for draw in range(5)
    ]
    tables.write_part(storage, "spectra", rows, "spectra")
    return storage


def test_spectra_are_shares_of_the_trace_at_each_step(tmp_path: Path):
    view = View(with_spectra(tmp_path, networks(seeds=2)))
    (drawing,) = spectrum(view)
    mesh = drawing.figure.axes[0].collections[0]
    values = np.asarray(mesh.get_array())
    assert values.shape == (SIDE, len(SCHEDULE))
    expected = 2.0 ** -np.arange(SIDE)
    np.testing.assert_allclose(values, np.tile(expected / expected.sum(), (len(SCHEDULE), 1)).T)


def test_an_eigenvalue_of_zero_has_no_colour(tmp_path: Path):
    runs = networks(seeds=1)
    view = View(with_spectra(tmp_path, runs, decay=1e9))
    kernel = view.kernel_of("test-probe")
    found = reading.shares(reading.spectra(view), view.runs, "test", kernel)
    assert found.shape == (len(SCHEDULE), SIDE)
    assert found.index.tolist() == pytest.approx([step / EPOCH_STEPS for step in SCHEDULE])


def test_too_many_spectra_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    view = View(with_spectra(tmp_path, networks(seeds=1)))
    monkeypatch.setattr(reading, "_MOST", 10)
    assert spectrum(view) == []


def test_steps_on_new_points_are_drawn(tmp_path: Path):
    names = ("new_point_step_parameters", "new_point_step_outputs")
    others = dict.fromkeys(names, lambda run, step: 1.0 + step)
    storage = study(tmp_path, networks(seeds=1), variables=names, others=others)
    (drawing,) = new_points(View(storage))
    assert drawing.figure.axes[0].get_ylabel().startswith("‖Δθ‖/η")
    assert new_points(View(study(tmp_path / "without", networks(seeds=1)))) == []
