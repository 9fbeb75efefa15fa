"""Curves against how far training has come instead of when: networks compared at equal loss (BSC App. C.1)."""

import numpy as np
from jaxtyping import Float, Float64


def against_log_loss(
    log_loss: Float[np.ndarray, " steps"],
    values: Float[np.ndarray, " steps"],
    levels: Float[np.ndarray, " levels"],
) -> Float64[np.ndarray, " levels"]:
    """A quantity when ln L first comes down to each of some levels.

    Between two steps both are taken to go straight. A loss that rises again is passed over until it is below its
    earlier least: what counts is the first time that a level is reached.

    Args:
        log_loss: ln L at successive steps.
        values: The quantity at these steps.
        levels: Of ln L.

    Returns:
        A value a level; NaN for levels that were never reached or lie above the start, and where a value beside is NaN.

    Raises:
        ValueError: No steps, curves of different lengths, or a loss that is NaN, which leaves open when levels are
            reached.
    """
    log_loss, values, levels = (np.asarray(array, dtype=np.float64) for array in (log_loss, values, levels))
    if log_loss.shape != values.shape or log_loss.ndim != 1 or not len(log_loss):
        shapes = f"log_loss {list(log_loss.shape)}, values {list(values.shape)}"
        raise ValueError(f"{shapes}: expected one value per step, at least one step: give curves of the same steps")
    if np.isnan(log_loss).any():
        raise ValueError("log_loss has NaN: leave such a run out")
    found = np.full(len(levels), np.nan)
    for place, level in enumerate(levels):
        if not log_loss.min() <= level <= log_loss[0]:
            continue
        after = int(np.argmax(log_loss <= level))
        if log_loss[after] == level:
            found[place] = values[after]
            continue
        above, below = log_loss[after - 1], log_loss[after]
        share = (above - level) / (above - below)
        found[place] = (1 - share) * values[after - 1] + share * values[after]
    return found
