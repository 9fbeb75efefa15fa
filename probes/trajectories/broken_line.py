"""Two straight lines that meet, whichever of them is the steeper."""

import numpy as np
from jaxtyping import Float64

_PLACES = 101


def broken_line(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> tuple[float, float, float]:
    """The continuous line of two pieces that is nearest to points, by least squares: its knee, slope before, after.

    For a given knee it is linear in the rest, so the knee is looked for on a grid between the second point and the last
    but one. Where growth has to slow down, and seeds give intervals, `break_point.break_point` is for it.

    Args:
        x: Ascending, five at least: two on each side and the knee.
        y: At these.

    Raises:
        ValueError: Fewer than five points.
    """
    if len(x) < 5:
        raise ValueError(f"got {len(x)} points, expected 5 at least for two lines and where they meet")
    best: tuple[float, tuple[float, float, float]] = (np.inf, (np.nan, np.nan, np.nan))
    for knee in np.linspace(x[1], x[-2], _PLACES):
        columns = np.stack([np.ones_like(x), np.minimum(x - knee, 0), np.maximum(x - knee, 0)], axis=1)
        found, *_ = np.linalg.lstsq(columns, y, rcond=None)
        error = float(((columns @ found - y) ** 2).sum())
        if error < best[0]:
            best = error, (float(knee), float(found[1]), float(found[2]))
    return best[1]
