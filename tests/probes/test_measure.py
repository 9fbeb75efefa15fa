import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from probes import collective_variables, draw_indices, draw_points, eigenvalues, measure, tangent_kernel


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**40), st.data())
def test_draws_are_without_repetition(population: int, draws: int, seed: int, data: st.DataObject):
    size = data.draw(st.integers(1, population))
    indices = draw_indices(population, draws, size, seed)
    assert indices.shape == (draws, size)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < population
    assert all(len(set(row)) == size for row in indices.tolist())
    # A function of the arguments, and more draws begin with the fewer.
    np.testing.assert_array_equal(draw_indices(population, draws + 2, size, seed)[:draws], indices)


FROZEN = [[942, 623, 897, 683], [55, 224, 299, 285]]


def test_draws_are_frozen():
    """Stored runs rely on these numbers: a change makes old and new curves sample different points."""
    assert draw_indices(1000, 2, 4, seed=7).tolist() == FROZEN
    assert draw_indices(1000, 2, 4, seed=8).tolist() != FROZEN


def test_draws_reach_every_point_alike():
    counts = np.bincount(draw_indices(10, 4000, 3, seed=0).ravel(), minlength=10)
    assert abs(counts - 1200).max() < 150  # five standard deviations


def test_drawn_points_are_the_indexed_ones():
    data = torch.randn(30, 4, 2)
    points = draw_points(data, draws=3, size=5, seed=1)
    indices = draw_indices(30, 3, 5, 1)
    assert points.shape == (3, 5, 4, 2)
    assert torch.equal(points[2, 1], data[indices[2, 1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 1, 6, 0), "size=6 points cannot be drawn out of 5"),
        ((5, 0, 2, 0), "draws=0, size=2, expected both at least 1"),
        ((5, 1, 0, 0), "draws=1, size=0, expected both at least 1"),
        ((5, 1, 2, -1), "seed=-1 is negative"),
    ],
)
def test_draw_errors(arguments: tuple[int, int, int, int], message: str):
    with pytest.raises(ValueError, match=message):
        draw_indices(*arguments)


@pytest.mark.parametrize(("outputs", "side"), [("full", 10), ("traced", 5), ("summed", 5)])
def test_measures_every_draw(outputs: str, side: int):
    model, points = network(), torch.randn(3, 5, 4)
    names = ("trace", "entropy", "entropy_cosine")
    measured = measure(model, points, outputs, names)
    assert measured.outputs == outputs
    assert list(measured.values) == list(names)
    assert measured.eigenvalues.shape == (3, side)
    assert measured.clipped_mass.shape == (3,)
    for d in range(3):
        kernel = tangent_kernel(model, points[d], outputs)
        assert {name: measured.values[name][d] for name in names} == collective_variables(kernel, names)
        np.testing.assert_array_equal(measured.eigenvalues[d], eigenvalues(kernel))


def test_mean_and_standard_error():
    measured = measure(network(), torch.randn(4, 5, 4), variables=("trace",))
    traces = measured.values["trace"]
    mean = sum(traces) / 4
    assert measured.mean("trace") == pytest.approx(mean)
    assert measured.stderr("trace") == pytest.approx(math.sqrt(sum((traces - mean) ** 2) / 3 / 4))


def test_one_draw_has_no_standard_error():
    measured = measure(network(), torch.randn(1, 5, 4))
    assert math.isfinite(measured.mean("entropy"))
    assert math.isnan(measured.stderr("entropy"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_draw_is_never_averaged_away(bad: float):
    points = torch.randn(3, 5, 4)
    points[1, 2, 0] = bad
    measured = measure(network(), points)
    for name, values in measured.values.items():
        assert np.isnan(values).tolist() == [False, True, False], name
        assert math.isnan(measured.mean(name))
        assert math.isnan(measured.stderr(name))
    assert np.isnan(measured.eigenvalues[1]).all()
    assert np.isfinite(measured.eigenvalues[[0, 2]]).all()
    assert np.isnan(measured.clipped_mass).tolist() == [False, True, False]


def test_eigenvalues_are_shared_with_the_variables(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    solve = np.linalg.eigvalsh
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda matrix: (calls.append(1), solve(matrix))[1])
    measure(network(), torch.randn(3, 5, 4), variables=("entropy", "effective_rank", "largest_eigenvalue"))
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("points", "variables", "error", "message"),
    [
        (torch.zeros(0, 5, 4), ("trace",), ValueError, r"shape \[0, 5, 4\], expected \[draws, size, ...\]"),
        (torch.zeros(5), ("trace",), ValueError, r"shape \[5\], expected \[draws, size, ...\]"),
        (np.zeros((2, 5, 4)), ("trace",), TypeError, "points are a ndarray"),
        (torch.zeros(2, 5, 4), ("tracee",), ValueError, "did you mean 'trace'"),
        (torch.zeros(2, 0, 4), ("trace",), ValueError, "no data points"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(points: torch.Tensor, variables: tuple[str, ...], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        measure(network(), points, variables=variables)


def test_asking_for_what_was_not_measured():
    measured = measure(network(), torch.randn(2, 5, 4), variables=("trace",))
    with pytest.raises(ValueError, match="'entropy' was not measured, only trace"):
        measured.mean("entropy")


def test_works_alone_in_a_notebook():
    """No pipeline, models, tasks, Ray, MLflow or test tools behind the import, and the docstring's example runs."""
    script = """
import doctest, sys
import probes
unwanted = {"pipeline", "models", "tasks", "ray", "mlflow", "beartype"} & set(sys.modules)
assert not unwanted, unwanted
assert set(probes.__all__) <= set(dir(probes))
result = doctest.testmod(probes)
assert result.attempted >= 4 and result.failed == 0, result
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
