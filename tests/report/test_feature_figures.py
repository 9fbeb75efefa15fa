"""What figures of features draw: the numbers of the tables, of the right runs at the right steps."""

from pathlib import Path

import numpy as np
from features_study import CLASSES, P, falling, run_of, study
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from synthetic_study import SCHEDULE, STEPS, Row

from tangentscope.pipeline.report.figures import FIGURES, render
from tangentscope.pipeline.report.view import View

SEEDS = range(3)


def share(run: Row, step: int) -> np.ndarray:
    return np.arange(1, P + 1) / P * (step + 1 + run["seed"]) / (STEPS + 4)


def strength(run: Row, step: int) -> np.ndarray:
    return (1.0 + run["seed"]) * 0.5 ** (np.arange(P) * (1 + run["seed"]))


PROFILES = {
    "quality_cumulative": share,
    "utilisation_cumulative": share,
    "intensities": strength,
    "quality": share,
    "utilisation": share,
}


def of_widths(root: Path, widths: list[int]) -> View:
    runs = [run_of(seed, model__width=width) for width in widths for seed in SEEDS]
    numbers = {"kappa_cka": falling(0.5, 0.05), "effective_dimension_intensity": falling(9, 4)}
    return study(root, runs, numbers, PROFILES, entropy=falling(2, 1))


def curves(panel: Axes) -> list[Line2D]:
    return [line for line in panel.lines if len(line.get_xdata()) > 2]


def test_profiles_of_networks_at_the_end_and_of_each_over_time(tmp_path: Path):
    view = of_widths(tmp_path, [8, 32])
    ends, *each = FIGURES["feature_profiles"](view)
    assert [drawing.name for drawing in each] == ["feature_profiles-width=8", "feature_profiles-width=32"]
    quality, _, intensity = ends.figure.axes
    (line, _) = curves(quality)
    expected = np.mean([share({"seed": seed}, STEPS) for seed in SEEDS], axis=0)
    np.testing.assert_allclose(line.get_ydata(), expected)
    np.testing.assert_allclose(line.get_xdata(), np.arange(1, P + 1))
    (line, _) = curves(intensity)
    logs = [np.log(strength({"seed": seed}, STEPS) / strength({"seed": seed}, STEPS)[0]) for seed in SEEDS]
    np.testing.assert_allclose(np.log(line.get_ydata()), np.mean(logs, axis=0), atol=1e-12)
    assert any(list(line.get_xdata()) == [CLASSES, CLASSES] for line in quality.lines)
    assert [text.get_text() for text in ends.figure.legends[0].get_texts()] == [
        "width=8 (0.5) [0.05]",
        "width=32 (0.5) [0.05]",
    ]
    firsts = [line.get_ydata()[0] for line in curves(each[0].figure.axes[0])]
    assert firsts == sorted(firsts), "the colours go with time"
    assert len(firsts) == 5
    assert render(ends.figure)["png"][:4] == b"\x89PNG"


def test_the_first_features_over_time(tmp_path: Path):
    drawings = FIGURES["first_features"](of_widths(tmp_path, [8]))
    assert len(drawings) == 1
    quality = drawings[0].figure.axes[0]
    assert len(curves(quality)) == P
    expected = [np.mean([share({"seed": seed}, step)[2] for seed in SEEDS]) for step in SCHEDULE]
    np.testing.assert_allclose(curves(quality)[2].get_ydata(), expected)
    assert [line.get_linestyle() for line in curves(quality)] == ["-"] * CLASSES + ["--"] * (P - CLASSES)


def test_features_beside_the_kernel(tmp_path: Path):
    (drawing,) = FIGURES["features_and_kernel"](of_widths(tmp_path, [8, 32]))
    titles = [panel.get_title(loc="left") for panel in drawing.figure.axes]
    assert titles == [
        "(a) Entropy $S$ of Θ (nats), test",
        "(b) $D_\\mathrm{eff}(\\rho)$",
        "(c) $\\kappa$",
    ]
    entropy = drawing.figure.axes[0]
    np.testing.assert_allclose(curves(entropy)[0].get_ydata(), [falling(2, 1)({}, step) for step in SCHEDULE])


def test_a_number_that_is_varied(tmp_path: Path):
    (drawing,) = FIGURES["feature_scaling"](of_widths(tmp_path, [8, 16, 32]))
    error, _, kappa = drawing.figure.axes
    (line,) = [line for line in error.lines if line.get_linestyle() == "-"]
    assert list(line.get_xdata()) == [8, 16, 32]
    np.testing.assert_allclose(line.get_ydata(), 0.5)
    (line,) = [line for line in curves(kappa) if line.get_linestyle() == "-"]
    np.testing.assert_allclose(line.get_ydata(), 0.05)
    assert FIGURES["feature_scaling"](of_widths(tmp_path / "two", [8, 16])) == []
