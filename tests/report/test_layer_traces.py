"""The figure of traces by layer: a line a layer, means over draws and seeds, gaps where something is missing."""

import math
from pathlib import Path

import numpy as np
import pytest
from synthetic_study import SCHEDULE, Row, a_run, probe, write_study

from tangentscope.pipeline.report.figures import render
from tangentscope.pipeline.report.figures.layer_traces import layer_traces
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import layout, tables
from tangentscope.pipeline.store.files import Storage

LAYERS = ["first", "", "last"]


def value(run: Row, split: str, step: int, draw: int, layer: int) -> float:
    return (1 + layer) * (1 + step) * (2 if split == "test" else 1) * (1 + 0.1 * draw) * (1 + run["seed"])


def study(root: Path, runs: list[Row], layers: list[str] = LAYERS, broken: int | None = None) -> Storage:
    probes = [probe(split, variables=["trace", "layer_traces"], draws=2) for split in ("train", "test")]
    storage = write_study(root, [run | {"layers": layers} for run in runs], probes=[probe("train"), probe("test")])
    plan = storage.read_json(layout.PLAN)
    storage.write_json(layout.PLAN, plan | {"probes": probes})
    rows = [
        {
            **{"run": run["run"], "attempt": 1, "step": step, "epoch": step / 32, "checksum": "c", "draw": draw},
            **{"probe": f"{split}-probe", "split": split, "outputs": "full", "variable": "layer_traces", "version": 1},
            "recorded_at": 0.0,
            "values": [math.nan if step == broken else value(run, split, step, draw, k) for k in range(3)],
        }
        for run in runs
        for step in SCHEDULE
        for split in ("train", "test")
        for draw in range(2)
    ]
    tables.write_part(storage, "profiles", rows, "probe")
    return storage


def test_lines_are_means_over_draws_and_seeds(tmp_path: Path):
    runs = [a_run(seed) for seed in (0, 1)]
    (drawing,) = layer_traces(View(study(tmp_path, runs)))
    axes = drawing.figure.axes
    assert [axis.get_title(loc="left")[4:] for axis in axes] == [
        "Trace by layer, test", "Share of the trace, test", "Trace by layer, train", "Share of the trace, train",
    ]  # fmt: skip
    for axis, split in ((axes[0], "test"), (axes[2], "train")):
        assert len(axis.lines) == len(LAYERS)
        for k, line in enumerate(axis.lines):
            x, y = line.get_data()
            np.testing.assert_allclose(x, [step / 32 for step in SCHEDULE])
            expected = [
                np.mean([value(run, split, step, draw, k) for run in runs for draw in range(2)]) for step in SCHEDULE
            ]
            np.testing.assert_allclose(y, expected)
    for k, line in enumerate(axes[1].lines):
        np.testing.assert_allclose(line.get_ydata(), (1 + k) / 6)
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == ["first", "own parameters", "last"]
    assert "2 seeds; mean over them and over draws" in drawing.caption
    assert render(drawing.figure)["png"][:4] == b"\x89PNG"


def test_a_value_that_is_not_finite_is_a_gap_in_every_line(tmp_path: Path):
    (drawing,) = layer_traces(View(study(tmp_path, [a_run(0)], broken=SCHEDULE[5])))
    for axis in drawing.figure.axes:
        for line in axis.lines:
            assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [5]


def test_runs_that_play_stand_at_their_episodes(tmp_path: Path):
    runs = [a_run(seed) for seed in (0, 1)]
    storage = study(tmp_path, runs)
    storage.write_json(layout.PLAN, storage.read_json(layout.PLAN) | {"report": {"x": "episode"}})
    rows = [
        {"run": run["run"], "attempt": 1, "step": step, "epoch": step / 32, "split": "train", "variable": "episodes"}
        | {"value": (2.0 + run["seed"]) * step, "recorded_at": 0.0}
        for run in runs
        for step in SCHEDULE
    ]
    tables.write_part(storage, "history", rows, "train")
    (drawing,) = layer_traces(View(storage))
    assert drawing.name == "layer_traces"
    np.testing.assert_allclose(drawing.figure.axes[0].lines[0].get_xdata(), [2.5 * step for step in SCHEDULE])


def test_one_figure_a_network(tmp_path: Path):
    runs = [a_run(0, **{"model.width": width}) for width in (4, 16)]
    drawings = layer_traces(View(study(tmp_path, runs)))
    assert [drawing.name for drawing in drawings] == ["layer_traces-width=4", "layer_traces-width=16"]


@pytest.mark.parametrize("layers", [[], ["one", "two"]])
def test_a_plan_that_knows_other_layers_has_no_figure(layers: list[str], tmp_path: Path):
    assert layer_traces(View(study(tmp_path, [a_run(0)], layers))) == []
