"""Power laws of a quantity in a size, such as width or the number of data points, over an ensemble of seeds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from tangentscope.probes.trajectories.resampling import (
    RESAMPLES,
    Estimate,
    NoFitError,
    bootstrap,
    jackknife,
    without_each,
)

FEWEST_SIZES = 4  # a straight line through fewer says little of whether there is one
TOLERANCE = 0.1  # in ln y: how far a mean may lie from a power law that still describes it

Means = Callable[[Int64[np.ndarray, "draws rows"]], Float64[np.ndarray, "draws sizes"]]


@dataclass(frozen=True)
class PowerLaw:
    """y ∝ x^exponent between the sizes `first` and `last`.

    exponent: with its interval over seeds.
    log_amplitude: ln y at x = 1.
    left_out: the sizes that fewer than half of the seeds have a positive, finite number at.
    """

    exponent: Estimate
    log_amplitude: float
    first: float
    last: float
    left_out: tuple[float, ...] = ()

    def __call__(self, sizes: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """y at some sizes."""
        return np.exp(self.log_amplitude) * np.asarray(sizes, dtype=np.float64) ** self.exponent.value


@dataclass(frozen=True)
class Logarithms:
    """Sizes x ascending, ln x, and ln y by seed; NaN where a seed has no positive, finite number."""

    sizes: Float64[np.ndarray, " sizes"]
    x: Float64[np.ndarray, " sizes"]
    y: Float64[np.ndarray, "seeds sizes"]
    left_out: tuple[float, ...]

    def means(self, draws: Int64[np.ndarray, "draws rows"]) -> Float64[np.ndarray, "draws sizes"]:
        """Mean over the seeds of each draw that have a number; NaN where none of them has."""
        drawn = self.y[draws]
        there = np.isfinite(drawn)
        count = there.sum(1)
        with np.errstate(invalid="ignore"):
            return np.where(there, drawn, 0.0).sum(1) / np.where(count == 0, np.nan, count)


def power_law(
    sizes: Float[np.ndarray, " sizes"],
    values: Float[np.ndarray, "seeds sizes"],
    within: tuple[int | float, int | float] | None = None,
    resamples: int = RESAMPLES,
) -> PowerLaw:
    """The exponent of y ∝ x^e: least squares of the mean of ln y over seeds on ln x, with a bootstrap interval.

    Where the fitted range is not given it is :func:`straight_range`, chosen once, of all seeds together.

    Args:
        sizes: x > 0, ascending.
        values: y by seed; what is not positive and finite is left out, as of a run that diverged.
        within: The least and the largest size to fit.
        resamples: Of the bootstrap over seeds.

    Raises:
        NoFitError: No number at all, or fewer than four sizes with numbers in the range.
    """
    logs = logarithms(sizes, values)
    return fitted(logs.sizes, logs.means, len(logs.y), within, resamples, logs.left_out)


def fitted(
    sizes: Float64[np.ndarray, " sizes"],
    means: Means,
    seeds: int,
    within: tuple[int | float, int | float] | None = None,
    resamples: int = RESAMPLES,
    left_out: tuple[float, ...] = (),
) -> PowerLaw:
    """The same of a quantity that seeds have only together, such as an adaptation rate.

    Args:
        sizes: x > 0, ascending.
        means: ln y at each size, of rows of seeds' places.
        seeds: How many there are.
        within, resamples, left_out: as for `power_law` and `PowerLaw`.

    Raises:
        NoFitError: Fewer than four sizes with numbers in the range.
    """
    everyone = means(np.arange(seeds)[None])[0]
    known = np.isfinite(everyone)
    left_out = (*left_out, *sizes[~known].tolist())
    x, errors = np.log(sizes), _errors(means, everyone, seeds)
    if known.sum() < FEWEST_SIZES:
        raise too_few(int(known.sum()), FEWEST_SIZES, "a power law")
    chosen = np.zeros(len(x), dtype=bool)
    if within is None:
        chosen[known] = straight_range(x[known], everyone[known], errors[known])
    else:
        chosen = known & _between(sizes, within)
    if chosen.sum() < FEWEST_SIZES:
        raise too_few(int(chosen.sum()), FEWEST_SIZES, "a power law")
    centred = x[chosen] - x[chosen].mean()
    slope = centred / (centred @ centred)
    exponent = bootstrap(lambda draws: means(draws)[:, chosen] @ slope, seeds, resamples)
    amplitude = float(everyone[chosen].mean() - exponent.value * x[chosen].mean())
    first, last = sizes[chosen][[0, -1]].tolist()
    return PowerLaw(exponent, amplitude, first, last, left_out)


def exponents(
    sizes: Float[np.ndarray, " sizes"],
    values: Float[np.ndarray, "seeds sizes"],
    within: tuple[int | float, int | float],
) -> Float64[np.ndarray, " seeds"]:
    """Each seed's own exponent over a range; NaN for a seed that lacks a number there.

    The mean over seeds is :func:`power_law`'s where none does. Arguments and errors as there.
    """
    logs = logarithms(sizes, values)
    chosen = _between(logs.sizes, within)
    if chosen.sum() < FEWEST_SIZES:
        raise too_few(int(chosen.sum()), FEWEST_SIZES, "a power law")
    centred = logs.x[chosen] - logs.x[chosen].mean()
    return logs.y[:, chosen] @ centred / (centred @ centred)


def straight_range(
    x: Float64[np.ndarray, " sizes"], mean: Float64[np.ndarray, " sizes"], errors: Float64[np.ndarray, " sizes"]
) -> Bool[np.ndarray, " sizes"]:
    """The sizes over which a power law describes the means.

    The longest run of four successive sizes or more from which no mean of ln y lies farther off the line through them
    than 0.1 or two standard errors over seeds, whichever is more; of equally long ones that with the least squares. If
    there is none, it is the four in a row that are straightest.

    Args:
        x: ln x, at least four.
        mean: ln y there.
        errors: Its standard errors.
    """
    allowed = np.maximum(TOLERANCE, 2 * errors)
    best, chosen = (-1, 0.0), slice(0, 0)
    for first in range(len(x) - FEWEST_SIZES + 1):
        for last in range(first + FEWEST_SIZES, len(x) + 1):
            off = _off_line(x[first:last], mean[first:last])
            straight = bool((np.abs(off) <= allowed[first:last]).all())
            rank = (last - first if straight else 0, -float(off @ off))
            if rank > best and (straight or last - first == FEWEST_SIZES):
                best, chosen = rank, slice(first, last)
    found = np.zeros(len(x), dtype=bool)
    found[chosen] = True
    return found


def logarithms(sizes: Float[np.ndarray, " sizes"], values: Float[np.ndarray, "seeds sizes"]) -> Logarithms:
    """ln x and ln y at the sizes that half of the seeds or more have a number at.

    Raises:
        NoFitError: No number at all.
        ValueError: Sizes that are not positive and ascending, shapes that do not fit.
    """
    sizes, values = (np.asarray(array, dtype=np.float64) for array in (sizes, values))
    if values.ndim != 2 or values.shape[1:] != sizes.shape or not values.size:
        raise ValueError(f"sizes {list(sizes.shape)}, values {list(values.shape)}: expected [sizes] and [seeds, sizes]")
    if (sizes <= 0).any() or (np.diff(sizes) <= 0).any():
        raise ValueError("sizes must be positive and ascending: sort them, and stack what is of one size by seed")
    good = np.isfinite(values) & (values > 0)
    if not good.any():
        raise NoFitError(f"nothing to fit: none of {values.size} numbers is positive and finite; all runs diverged?")
    enough = good.mean(0) >= 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(good, np.log(values), np.nan)
    return Logarithms(sizes[enough], np.log(sizes[enough]), logs[:, enough], tuple(sizes[~enough].tolist()))


def too_few(count: int, least: int, what: str) -> NoFitError:
    """The error of too few sizes."""
    return NoFitError(f"{count} sizes with numbers, {what} takes {least}: measure more")


def _errors(means: Means, everyone: Float64[np.ndarray, " sizes"], seeds: int) -> Float64[np.ndarray, " sizes"]:
    """Standard errors by jackknife; 0 with one seed, which tells none."""
    if seeds < 2:
        return np.zeros_like(everyone)
    return np.nan_to_num(jackknife(means(without_each(seeds))))


def _between(sizes: Float64[np.ndarray, " n"], within: tuple[int | float, int | float]) -> Bool[np.ndarray, " n"]:
    return (sizes >= within[0]) & (sizes <= within[1])


def _off_line(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    centred = x - x.mean()
    return y - y.mean() - centred * (centred @ y) / (centred @ centred)
