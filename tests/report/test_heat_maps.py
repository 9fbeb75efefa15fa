"""CV fig. 2's manner: two varied numbers, the start above the end, a cell the mean over seeds."""

import math

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from synthetic_study import STEPS, a_run, probe, write_study

from tangentscope.pipeline.report.figures.heat_maps import heat_maps
from tangentscope.pipeline.report.view import View, where

WIDTHS, DEPTHS = (8, 64, 512), (2, 5)


def sweep(seeds: int = 1, activations: tuple[str, ...] = ("relu",)) -> list[dict]:
    fields = [(w, d, a, s) for w in WIDTHS for d in DEPTHS for a in activations for s in range(seeds)]
    return [
        a_run(seed, **{"model.width": width, "model.depth": depth, "model.activation": activation})
        for width, depth, activation, seed in fields
    ]


def cells(panel) -> np.ndarray:
    return np.ma.filled(panel.images[0].get_array(), np.nan)


def test_there_is_a_figure_for_each_split_and_kind_of_network(tmp_path):
    drawings = heat_maps(View(write_study(tmp_path, sweep(activations=("relu", "tanh")))))
    assert [drawing.name for drawing in drawings] == [
        f"heat_maps-activation={activation}-{split}" for activation in ("relu", "tanh") for split in ("test", "train")
    ]
    titles = sorted(filter(None, (panel.get_title(loc="left") for panel in drawings[0].figure.axes)))
    assert titles == [
        "(a) Entropy, start", "(b) Trace, start", "(c) Loss, start",
        "(d) Entropy, end", "(e) Trace, end", "(f) Loss, end",
    ]  # fmt: skip


def test_a_cell_is_the_mean_over_seeds_at_its_width_and_depth(tmp_path):
    view = View(write_study(tmp_path, sweep(seeds=3)))
    drawing = heat_maps(view)[0]
    panels = {panel.get_title(loc="left"): panel for panel in drawing.figure.axes}
    for title, step in [("(a) Entropy, start", 0), ("(d) Entropy, end", STEPS)]:
        found = cells(panels[title])
        assert found.shape == (len(DEPTHS), len(WIDTHS))
        for row, depth in enumerate(DEPTHS):
            for place, width in enumerate(WIDTHS):
                runs = [r for r in view.runs if (r.varied["model.width"], r.varied["model.depth"]) == (width, depth)]
                rows = where(view.numbers, split="test", variable="entropy", step=step)
                values = [where(rows, run=run.id)["value"].item() for run in runs]
                assert len(values) == 3
                assert found[row, place] == pytest.approx(sum(values) / 3)
    labels = [
        [tick.get_text() for tick in axis.get_ticklabels()]
        for axis in (panels["(a) Entropy, start"].xaxis, panels["(a) Entropy, start"].yaxis)
    ]
    assert labels == [["8", "64", "512"], ["2", "5"]]
    assert panels["(d) Entropy, end"].get_xlabel() == "Width"
    assert panels["(d) Entropy, end"].get_ylabel() == "Depth"
    assert "3 seeds" in drawing.caption
    assert "At activation=relu." in drawing.caption


def test_a_trace_over_many_times_its_least_is_coloured_by_its_logarithm(tmp_path):
    [drawing, _] = heat_maps(View(write_study(tmp_path, sweep())))
    panels = {panel.get_title(loc="left"): panel for panel in drawing.figure.axes}
    assert isinstance(panels["(b) Trace, start"].images[0].norm, LogNorm)
    assert not isinstance(panels["(a) Entropy, start"].images[0].norm, LogNorm)


def test_what_has_no_value_is_left_open(tmp_path):
    runs = sweep()
    late, unfinished = runs[0], runs[1]

    def change(row):
        return {**row, "value": math.nan} if row["run"] == late["run"] and row["step"] == 0 else row

    storage = write_study(
        tmp_path, runs, change=change, until={unfinished["name"]: 3}, states={unfinished["name"]: None}
    )
    panels = {panel.get_title(loc="left"): panel for panel in heat_maps(View(storage))[0].figure.axes}
    assert np.isnan(cells(panels["(a) Entropy, start"])).tolist() == [[True, False, False], [False, False, False]]
    assert np.isnan(cells(panels["(d) Entropy, end"])).tolist() == [[False, False, False], [True, False, False]]


def test_there_is_no_map_of_fewer_than_two_numbers_or_of_nothing(tmp_path):
    names = [a_run(**{"model.width": width, "model.activation": "relu"}) for width in WIDTHS]
    assert heat_maps(View(write_study(tmp_path / "names", names))) == []
    runs = sweep()
    nothing = write_study(tmp_path / "nothing", runs, until={run["name"]: -1 for run in runs})
    assert heat_maps(View(nothing)) == []
    other = write_study(tmp_path / "other", runs, probes=[probe("test", variables=["effective_rank"])])
    assert heat_maps(View(other)) == []
