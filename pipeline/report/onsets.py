"""Where a curve over training begins to rise."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

_FEWEST = 6  # values; a flat part and a rise cannot be told from noise in fewer
_SHORTEST = 2  # values that a level has at least, and a hundredth of all: fewer may be outliers
_PENALTY = 3.0  # times ln n of noise variances for a change: Schwarz's criterion has 2, for noise known beforehand


@dataclass(frozen=True)
class Onset:
    """Between which two positions of a curve its rise begins.

    Attributes:
        at: The last position at which the curve is still flat.
        following: The next one that has a value. The curve says nothing of what lies between.
    """

    at: float
    following: float


def onset(x: Float64[np.ndarray, " steps"], values: Float64[np.ndarray, " steps"]) -> Onset | None:
    """The change-point from which a curve rises by the most.

    1. The curve is split into levels by penalised least squares (PELT, Killick et al. 2012, with a penalty of
       3 ln n variances of the noise, for n values). The noise is told from successive differences (von Neumann 1941):
       a curve that jumps to and fro between any two steps is flat.
    2. The rise is from the level to a later one that is above it by the most. What comes before the one, such as
       an entropy's fall, and after the other, such as a plateau, is of no account.
    3. The flat part is the level at the knee: of those up to half the height, the one whose end is furthest below
       the straight line from the rise's beginning to there. A small step and a plateau may come before a jump.
    4. The onset is the break of the least-squares fit of "flat, then straight up", y = a + b max(0, x − t) with b > 0,
       from the flat part up to half the height: the way a rise ends does not move its beginning. A slow rise is
       not found late, as the first level above the noise would be.

    The result moves and stretches with `x`, and stays as `values` are lifted or scaled.

    Args:
        x: Increasing positions, evenly spaced or not, such as iterations.
        values: Those of the curve. Where one is not finite, the curve has a gap.

    Returns:
        The onset; None if there is none: fewer than 6 values, no change beyond the penalty, or changes that only fall.

    Raises:
        ValueError: lengths that differ, or positions that do not increase.
    """
    x, values = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.shape != values.shape or (np.diff(x) <= 0).any():
        raise ValueError(
            f"x {list(x.shape)} and values {list(values.shape)}: expected one value per increasing position"
        )
    there = np.isfinite(values)
    x, values = x[there], values[there]
    rise = _rise(x, values) if len(values) >= _FEWEST else None
    if rise is None:
        return None
    first, last = rise
    place = first + _break(x[first : last + 1], values[first : last + 1])
    return Onset(float(x[place]), float(x[place + 1]))


def _rise(x: Float64[np.ndarray, " steps"], values: Float64[np.ndarray, " steps"]) -> tuple[int, int] | None:
    """Where the flat part before the rise begins, and the first value of the first level half the way up."""
    bounds = _levels(values)
    heights = np.array([values[first:last].mean() for first, last in pairwise(bounds)])
    # The highest of all that come later, beside each.
    later = np.maximum.accumulate(heights[::-1])[::-1]
    low = int(np.argmax(later - heights))
    if later[low] <= heights[low]:
        return None
    half = low + int(np.argmax(heights[low:] >= (heights[low] + later[low]) / 2))
    start, ends = x[bounds[low]], x[np.array(bounds[low + 1 : half + 1]) - 1]
    straight = heights[low] + (heights[half] - heights[low]) * (ends - start) / (x[bounds[half]] - start)
    knee = low + int(np.argmax(straight - heights[low:half]))
    return bounds[knee], bounds[half]


def _levels(values: Float64[np.ndarray, " steps"]) -> list[int]:
    """Where each level begins, and the number of values."""
    count, noise = len(values), math.sqrt(np.mean(np.diff(values) ** 2) / 2)
    if noise == 0:
        return [0, count]
    from ruptures import KernelCPD  # loads slowly, and a study without games does not need it

    scaled = (values - values.mean()) / noise
    search = KernelCPD(kernel="linear", min_size=max(_SHORTEST, count // 100)).fit(scaled[:, None])
    ends = search.predict(pen=_PENALTY * math.log(count))
    return [0, *map(int, ends)]  # pyright: ignore[reportArgumentType]  none only without a penalty


def _break(x: Float64[np.ndarray, " steps"], values: Float64[np.ndarray, " steps"]) -> int:
    """The place among all but the last at which "flat, then straight up" fits best."""
    ramps = np.maximum(0.0, x[None, :] - x[:-1, None])
    ramps -= ramps.mean(axis=1, keepdims=True)
    # With both centred, the slope that fits best explains this much of the sum of squares.
    along = ramps @ (values - values.mean())
    return int(np.argmax(np.maximum(along, 0.0) ** 2 / (ramps**2).sum(axis=1)))
