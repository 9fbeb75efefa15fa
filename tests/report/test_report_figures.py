"""The figures: files that journals take, the same bytes for the same data, and nothing drawn that was not measured."""

import math
import struct

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic_study import SCHEDULE, a_run, probe, write_study

from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.lines import MEAN, SEEDS, Curves, draw, spans_a_decade
from tangentscope.pipeline.report.figures.curves import curves
from tangentscope.pipeline.report.page import write_report
from tangentscope.pipeline.report.view import View

ONE_FIGURE = {"figures": ["effective_rank"], "x": "epoch"}


def drawn(curves_: Curves) -> tuple[list[np.ndarray], set[str]]:
    panel = Figure().subplots()
    used = draw(panel, curves_, "black")
    return [np.asarray(line.get_ydata(), dtype=float) for line in panel.lines], used


def seeds(*values: list[float]) -> Curves:
    frames = [pd.DataFrame({"step": range(len(v)), "x": range(len(v)), "value": v, "stderr": np.nan}) for v in values]
    return Curves.of(frames)


def test_png_and_pdf_are_what_they_say_and_large_enough(tmp_path, widths):
    storage = write_study(tmp_path, widths)
    names = write_report(storage)
    assert names == ["report.html", *(f"figures/{f}.{k}" for f in ("curves", "effective_rank") for k in ("png", "pdf"))]
    for name in names[1:]:
        data = storage.read(name)
        if name.endswith(".png"):
            assert data.startswith(b"\x89PNG\r\n\x1a\n")
            assert min(struct.unpack(">II", data[16:24])) > 600
        else:
            assert data.startswith(b"%PDF-")
            assert b"/FontFile2" in data  # TrueType, embedded
            assert b"/Type3" not in data
            assert b"CreationDate" not in data


def test_the_same_data_give_the_same_bytes(tmp_path, widths):
    first, second = (write_study(tmp_path / place, widths, report=ONE_FIGURE) for place in "ab")
    names = write_report(first)
    assert write_report(second) == names
    assert all(first.read(name) == second.read(name) for name in names)


def test_other_data_give_other_bytes(tmp_path, widths):
    first = write_study(tmp_path / "a", widths, report=ONE_FIGURE)
    second = write_study(
        tmp_path / "b", widths, report=ONE_FIGURE, change=lambda row: {**row, "value": row["value"] * 1.5}
    )
    write_report(first)
    write_report(second)
    assert first.read("figures/effective_rank.png") != second.read("figures/effective_rank.png")


def test_panels_are_splits_by_variables_with_logarithmic_axes_where_values_span_a_decade(tmp_path, widths):
    [drawing] = curves(View(write_study(tmp_path, widths)))
    panels = {panel.get_title(loc="left"): panel for panel in drawing.figure.axes}
    assert list(panels) == [
        "(a) Entropy, test", "(b) Trace, test", "(c) Loss, test",
        "(d) Entropy, train", "(e) Trace, train", "(f) Loss, train",
    ]  # fmt: skip
    assert panels["(a) Entropy, test"].get_ylabel() == "Entropy $S$ (nats)"
    assert panels["(a) Entropy, test"].get_yscale() == "linear"
    assert panels["(b) Trace, test"].get_yscale() == panels["(f) Loss, train"].get_yscale() == "log"
    assert all(len(panel.lines) == 4 for panel in panels.values())
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == ["8", "32", "128", "512"]


def test_what_is_drawn_is_what_was_measured(tmp_path):
    run = a_run()
    storage = write_study(tmp_path, [run])
    view = View(storage)
    [drawing] = curves(view)
    rows = view.measured[(view.measured["split"] == "test") & (view.measured["variable"] == "entropy")]
    [line] = drawing.figure.axes[0].lines
    assert np.asarray(line.get_xdata()) == pytest.approx(np.array(SCHEDULE) / run["epoch_steps"])
    assert np.asarray(line.get_ydata()) == pytest.approx(rows.sort_values("step")["value"].to_numpy())
    assert not drawing.figure.legends  # one colour needs none


@pytest.mark.parametrize("fault", ["nan", "infinite", "failed", "missing"])
def test_a_step_without_a_value_is_a_gap(tmp_path, fault):
    hole = SCHEDULE[7]

    def change(row):
        if row["step"] != hole or row["variable"] != "entropy":
            return row
        values = {"nan": {"value": math.nan}, "infinite": {"value": math.inf}, "failed": {"state": "failed"}}
        return {**row, **values[fault]} if fault in values else None

    [drawing] = curves(View(write_study(tmp_path, [a_run()], change=change)))
    y = np.asarray(drawing.figure.axes[0].lines[0].get_ydata(), dtype=float).ravel()
    assert np.flatnonzero(np.isnan(y)).tolist() == [7]


def test_three_seeds_are_a_mean_with_its_standard_error():
    panel = Figure().subplots()
    used = draw(panel, seeds([1.0, 2.0], [2.0, 4.0], [3.0, 6.0]), "black")
    assert used == {MEAN}
    assert np.asarray(panel.lines[0].get_ydata()) == pytest.approx([2.0, 4.0])
    band = panel.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(2 - 1 / math.sqrt(3))
    assert band[:, 1].max() == pytest.approx(4 + 2 / math.sqrt(3))


def test_two_seeds_are_two_lines():
    lines, used = drawn(seeds([1.0, 2.0], [3.0, 4.0]))
    assert used == {SEEDS}
    assert [line.tolist() for line in lines] == [[1.0, 2.0], [3.0, 4.0]]


def test_a_mean_is_drawn_only_where_all_seeds_have_a_value():
    lines, used = drawn(seeds([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0], [3.0, 3.0]))
    assert used == {MEAN, SEEDS}
    mean, *thin = lines
    np.testing.assert_array_equal(mean, [2, 2, np.nan, np.nan])
    # The thin lines start where the mean ends, so that nothing seems to be missing between.
    np.testing.assert_array_equal(thin, [[np.nan, 1, 1, 1], [np.nan, 2, 2, 2], [np.nan, 3, np.nan, np.nan]])


def test_one_seed_with_draws_has_a_band(tmp_path):
    probes = [probe("train", draws=20), probe("test", draws=20)]
    [drawing] = curves(View(write_study(tmp_path, [a_run()], probes=probes)))
    assert len(drawing.figure.axes[0].collections) == 1
    assert "over draws" in drawing.caption
    assert "20 draws of 50 points" in drawing.caption


def test_each_combination_of_further_fields_has_its_figure(tmp_path):
    grid = [(width, activation) for width in (8, 32) for activation in ("relu", "tanh")]
    runs = [a_run(**{"model.width": width, "model.activation": activation}) for width, activation in grid]
    drawings = curves(View(write_study(tmp_path, runs)))
    assert [drawing.name for drawing in drawings] == ["curves-activation=relu", "curves-activation=tanh"]
    assert all(len(drawing.figure.axes[0].lines) == 2 for drawing in drawings)


def scan(width: int = 32, depth: int = 3, activation: str = "relu") -> dict:
    return a_run(**{"model.width": width, "model.depth": depth, "model.activation": activation})


def test_fields_varied_one_at_a_time_have_a_figure_each(tmp_path):
    """As in CV fig. 1: a row of panels for each field, the base in all of them."""
    runs = [scan(width=8), scan(), scan(width=128), scan(depth=2), scan(depth=5), scan(activation="tanh")]
    drawings = curves(View(write_study(tmp_path, runs)))
    found = {drawing.name: [text.get_text() for text in drawing.figure.legends[0].get_texts()] for drawing in drawings}
    assert found == {
        "curves-depth=3-activation=relu": ["8", "32", "128"],
        "curves-width=32-activation=relu": ["2", "3", "5"],
        "curves-width=32-depth=3": ["relu", "tanh"],
    }
    legends = [drawing.figure.legends[0].get_title().get_text() for drawing in drawings]
    assert legends == ["width", "depth", "activation"]
    assert all(f"Colour: {legend}. At " in drawing.caption for legend, drawing in zip(legends, drawings, strict=True))


def test_two_fields_varied_together_are_no_scan(tmp_path):
    drawings = curves(View(write_study(tmp_path, [scan(width=8), scan(depth=2)])))
    names = ["curves-depth=3-activation=relu", "curves-depth=2-activation=relu"]
    assert [drawing.name for drawing in drawings] == names


def test_too_many_combinations_are_cut_and_the_caption_says_so(tmp_path):
    runs = [a_run(**{"model.width": width, "model.depth": depth}) for depth in range(12) for width in (8, 32)]
    drawings = curves(View(write_study(tmp_path, runs)))
    assert len(drawings) == 8
    assert all("first 8 of 12 combinations" in drawing.caption for drawing in drawings)


def test_kernels_taken_in_two_ways_are_never_mixed(tmp_path):
    probes = [probe("test"), probe("test", probe="traced", outputs="traced")]
    run = {**a_run(), "probes": ["test-probe", "traced"]}
    drawings = curves(View(write_study(tmp_path, [run], probes=probes)))
    assert [drawing.name for drawing in drawings] == ["curves-outputs=full", "curves-outputs=traced"]


def test_numbers_get_sequential_colours_in_their_order_and_names_distinct_ones():
    assert list(colours([512, 8, 128, 8])) == ["8", "128", "512"]
    light = [sum(colour[:3]) for colour in colours([2**k for k in range(12)]).values()]
    assert light == sorted(light)
    names = colours(["tanh", "relu", "gelu"])
    assert list(names) == ["tanh", "relu", "gelu"]
    assert len({str(colour) for colour in names.values()}) == 3
    assert len(colours([True, False])) == 2
    assert len(colours([[64, 64], [32, 32]])) == 2
    optimisers = [{"lr": 0.1, "name": "sgd"}, {"name": "adam", "lr": 1e-3, "schedule": {"name": "cosine"}}]
    assert list(colours(optimisers)) == ["sgd,lr=0.1", "adam,lr=0.001,schedule=cosine"]


def test_log_scale_needs_positive_values_over_more_than_a_decade():
    assert spans_a_decade([seeds([1.0, 11.0])])
    assert not spans_a_decade([seeds([1.0, 9.0])])
    assert not spans_a_decade([seeds([0.0, 100.0])])
    assert not spans_a_decade([])


def test_file_names_hold_no_separators_and_do_not_collide():
    taken: set[str] = set()
    assert file_name("curves-a=../../b", taken) == "curves-a=.._.._b"
    assert file_name("curves-a=../..?b", taken) != "curves-a=.._.._b"
    assert len(file_name("x" * 300, taken)) < 100
