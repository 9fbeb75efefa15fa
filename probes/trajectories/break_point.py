"""Where one power law gives way to another: a smoothly broken power law, fitted over an ensemble of seeds."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from tangentscope.probes.trajectories.power_law import Logarithms, logarithms, too_few
from tangentscope.probes.trajectories.resampling import RESAMPLES, Estimate, NoFitError, estimate, resamples_of

FEWEST_SIZES = 6  # a level, two slopes, the break and its smoothness are five numbers
_PLACES = 181  # that are tried, so that neighbours are closer than any interval is wide
_LEVEL = 0.05
_SMOOTHNESS = (0.1, 0.2, 0.4, 0.8)  # in ln x; a turn over more than a decade is no break


@dataclass(frozen=True)
class BrokenPowerLaw:
    """y ∝ x^before below `place`, ∝ x^after above it; the two lines of ln y on ln x meet at `place`."""

    place: Estimate
    before: Estimate
    after: Estimate
    log_level: float
    smoothness: float
    left_out: tuple[float, ...] = ()

    def __call__(self, sizes: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """y at some sizes."""
        x = np.log(np.asarray(sizes, dtype=np.float64)) - np.log(self.place.value)
        bend = self.after.value - self.before.value
        return np.exp(self.log_level + self.before.value * x + bend * _softplus(x, self.smoothness))


class _Fits(NamedTuple):
    place: Float64[np.ndarray, " draws"]
    before: Float64[np.ndarray, " draws"]
    after: Float64[np.ndarray, " draws"]
    level: Float64[np.ndarray, " draws"]
    smoothness: Float64[np.ndarray, " draws"]


def break_point(
    sizes: Float[np.ndarray, " sizes"], values: Float[np.ndarray, "seeds sizes"], resamples: int = RESAMPLES
) -> BrokenPowerLaw:
    """Where the growth of y with x slows down, from x^before to x^after with after < before.

    Least squares on the mean of ln y over seeds of

        ln y = c + before · (ln x − b) + (after − before) · s ln(1 + exp((ln x − b)/s)),

    the smoothly broken power law with its break at e^b. For given b and s it is linear in the rest, so b is looked for
    between the second size and the last but one, s among 0.1, 0.2, 0.4, 0.8: no start is to be guessed and no local
    minimum to be caught in. Intervals are by bootstrap over seeds.

    Args:
        sizes: x > 0, ascending.
        values: y by seed; what is not positive and finite is left out.
        resamples: Of the bootstrap.

    Raises:
        NoFitError: Fewer than six sizes with numbers; no break: growth never slows down, the best break lies at the
            border of the range, or two exponents are no nearer to the means than one, beyond the seeds' spread: an F
            test of a break, a bend and its smoothness at 5 %, which of a pure power law finds a break in one of a
            hundred ensembles.
    """
    logs = _enough(logarithms(sizes, values))
    seeds = len(logs.y)
    fits = _fits(logs, resamples_of(seeds, resamples))
    place, before, after = (estimate(found, seeds) for found in (fits.place, fits.before, fits.after))
    if not np.isfinite(place.value):
        raise NoFitError("no break: growth never slows down")
    if np.isclose(place.value, logs.x[[1, -2]]).any():
        low, high = logs.sizes[[1, -2]]
        raise NoFitError(f"no break: the best one lies at the border of {low:.4g} … {high:.4g}")
    if seeds > 1 and _chance_of(logs, fits) > _LEVEL:
        slopes = f"{before.value:.3g} before and {after.value:.3g} after"
        raise NoFitError(f"no break: exponents of {slopes} are no nearer to the means than one, beyond seeds' spread")
    place = Estimate(*np.exp([place.value, place.low, place.high]).tolist())
    return BrokenPowerLaw(place, before, after, float(fits.level[0]), float(fits.smoothness[0]), logs.left_out)


def break_places(
    sizes: Float[np.ndarray, " sizes"],
    values: Float[np.ndarray, "seeds sizes"],
    draws: Int64[np.ndarray, "draws rows"],
) -> Float64[np.ndarray, " draws"]:
    """The break point of each draw of seeds; NaN where growth slows down nowhere. Arguments as for `break_point`.

    Raises:
        NoFitError: Fewer than six sizes with numbers.
    """
    return np.exp(_fits(_enough(logarithms(sizes, values)), draws).place)


def break_ratio(
    sizes: Float[np.ndarray, " sizes"],
    one: Float[np.ndarray, "seeds sizes"],
    other: Float[np.ndarray, "seeds sizes"],
    resamples: int = RESAMPLES,
) -> Estimate:
    """log₂ of the ratio of two quantities' break points, of which the same seeds are drawn together.

    Arguments as for `break_point`; whether there are breaks is what that one tells.

    Raises:
        NoFitError: Fewer than six sizes with numbers.
    """
    draws = resamples_of(len(one), resamples)
    first, second = (np.log2(break_places(sizes, values, draws)) for values in (one, other))
    return estimate(first - second, len(one))


def _enough(logs: Logarithms) -> Logarithms:
    if len(logs.x) < FEWEST_SIZES:
        raise too_few(len(logs.x), FEWEST_SIZES, "a broken power law")
    return logs


def _fits(logs: Logarithms, draws: Int64[np.ndarray, "draws rows"]) -> _Fits:
    """The best break of each draw of seeds; NaN where growth slows down nowhere, or a size has no number."""
    y = logs.means(draws)
    places, smoothness = np.meshgrid(np.linspace(logs.x[1], logs.x[-2], _PLACES), _SMOOTHNESS)
    places, smoothness = places.ravel(), smoothness.ravel()
    x = logs.x - places[:, None]
    designs = np.stack([np.ones_like(x), x, _softplus(x, smoothness[:, None])], 2)  # [tried, sizes, 3]
    solved = y @ np.linalg.pinv(designs).mT  # [tried, draws, 3]
    bases, _ = np.linalg.qr(designs)
    explained = ((y - y.mean(1, keepdims=True)) @ bases) ** 2  # of the squares; lines hold the mean
    best = np.where(solved[..., 2] < 0, explained.sum(2), -np.inf)
    chosen = best.argmax(0)
    level, before, bend = solved[chosen, np.arange(len(y))].T
    there = np.isfinite(best.max(0))
    found = (places[chosen], before, before + bend, level, smoothness[chosen])
    return _Fits(*(np.where(there, values, np.nan) for values in found))


def _chance_of(logs: Logarithms, fits: _Fits) -> float:
    """The chance of a break at least as much nearer to the means than a line is, were there none."""
    from scipy.stats import f  # takes a while to load

    means, counts = np.nanmean(logs.y, 0), np.isfinite(logs.y).sum(0)
    x = logs.x - fits.place[0]
    bend = fits.after[0] - fits.before[0]
    broken = fits.level[0] + fits.before[0] * x + bend * _softplus(x, float(fits.smoothness[0]))
    line = np.polyval(np.polyfit(logs.x, means, 1), logs.x)
    nearer = ((means - line) ** 2).sum() - ((means - broken) ** 2).sum()
    degrees = int((counts - 1).sum())
    of_means = np.nansum((logs.y - means) ** 2) / degrees / counts.mean()
    return float(f.sf(nearer / 3 / of_means, 3, degrees)) if of_means > 0 else float(nearer <= 0)


def _softplus(x: np.ndarray, smoothness: float | np.ndarray) -> np.ndarray:
    return smoothness * np.logaddexp(0.0, x / smoothness)
