"""Fits by sines: figures and claims of Nam, chapter 1, of least-norm solutions that are really found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from really_trained import trained

from tangentscope.pipeline.report.claims import CLAIMS
from tangentscope.pipeline.report.figures import FIGURES
from tangentscope.pipeline.report.sine_fits import sine_fits
from tangentscope.pipeline.report.view import View

LEAST: dict[str, Any] = {
    "model": {"name": "linear"},
    "optimiser": {"name": "least_norm"},
    "train": {"epochs": 1, "batch_size": "full"},
}
PLATEAU = {"name": "sines", "intensities": "plateau", "features": 500, "train_size": 40, "noise": 0.3}
RANDOM = {"name": "sines", "intensities": "equal", "train_size": 20, "random_labels": True}


def verdicts(view: View, claim: str) -> list[str]:
    return [finding.verdict for finding in CLAIMS[claim](view)]


@pytest.fixture(scope="module")
def overfit(tmp_path_factory: pytest.TempPathFactory) -> View:
    return trained(
        tmp_path_factory.mktemp("overfit"),
        **LEAST,
        grid={
            "task": [
                {**PLATEAU, "frequency": 1},
                {**PLATEAU, "frequency": 10},
                {**RANDOM, "features": 40},
                {**RANDOM, "features": 400},
            ],
            "task.data_seed": [0, 1, 2, 3, 4],
        },
    )


def test_what_is_fitted_goes_through_its_points(overfit: View):
    for fit in sine_fits(overfit):
        if fit.task.features > 100:
            x, y = fit.points()
            np.testing.assert_allclose(fit.at(x), y, atol=1e-4)


def test_a_leading_target_is_overfitted_benignly_and_another_one_malignantly(overfit: View):
    benign, malignant = CLAIMS["overfitting"](overfit)
    assert (benign.verdict, malignant.verdict) == ("held", "held")
    assert "benign" in benign.statement
    # R² of a fit that has the share 0.5 of the target and noise beside it is below 1 − 0.5².
    assert 0.5 < np.mean(benign.values) < 0.76
    assert np.mean(malignant.values) < 0.2


def test_power_is_that_of_the_function(overfit: View):
    fit = sine_fits(overfit)[0]
    x = (np.arange(20_000) + 0.5) / 20_000
    assert fit.power.sum() == pytest.approx(np.square(fit.at(x)).mean(), rel=1e-6)
    target = fit.task.target_at(x)
    assert target is not None
    assert fit.learned == pytest.approx((fit.at(x) * target).mean() / np.square(target).mean(), rel=1e-6)


def test_a_half_of_the_target_is_learned_and_not_all_of_it(overfit: View):
    """κ ≈ 1 for n of n + d features' worth of intensity: eq. 1.36 says that L ≈ 1."""
    (finding,) = CLAIMS["learnability"](overfit)
    assert finding.verdict == "held"
    assert [fit.learnability for fit in sine_fits(overfit)[:5]] == pytest.approx([0.51] * 5, abs=0.03)
    assert sine_fits(overfit)[-1].learnability is None


def test_noise_is_fitted_more_sharply_by_more_features(overfit: View):
    assert verdicts(overfit, "noise_sharpens") == ["held"]


def test_fits_are_drawn_with_points_and_targets(overfit: View):
    (drawing,) = FIGURES["fits"](overfit)
    panels = [axes for axes in drawing.figure.axes if axes.get_visible()]
    assert len(panels) == 4
    assert [len(panel.lines) for panel in panels] == [5, 5, 2, 2]
    share = next(line for line in panels[0].lines if line.get_linestyle() == ":")
    assert np.asarray(share.get_ydata(), float).max() == pytest.approx(0.51, abs=0.03)


@pytest.mark.parametrize("exponent", [-4, 4])
def test_intensities_decide_which_frequencies_are_used(exponent: int, tmp_path: Path):
    task = {"name": "sines", "exponent": exponent, "random_labels": True}
    view = trained(tmp_path, **LEAST, task=task, grid={"task.data_seed": [6, 7, 1, 3, 11]})
    (finding,) = CLAIMS["frequency_bias"](view)
    assert finding.verdict == "held"
    assert ("low" if exponent < 0 else "high") in finding.statement


def test_equal_intensities_prefer_none(tmp_path: Path):
    task = {"name": "sines", "exponent": -0.01, "random_labels": True}
    view = trained(tmp_path, **LEAST, task=task, grid={"task.data_seed": [6, 7, 1, 3, 11]})
    assert verdicts(view, "frequency_bias") != ["held"]
