"""How fast the trace answers to the training loss (BSC eq. 4)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True)
class AdaptationRate:
    """−d⟨Tr Θ⟩/d⟨ln L⟩ over training, and what it was taken of.

    rate: in the trace's unit per e-fold of the loss; NaN where the smoothed loss stands still or a value is NaN.
    stderr: its standard error by jackknife over the seeds; NaN with one seed.
    trace, log_loss: the ensemble's means, each averaged over the window.
    """

    rate: Float64[np.ndarray, " steps"]
    stderr: Float64[np.ndarray, " steps"]
    trace: Float64[np.ndarray, " steps"]
    log_loss: Float64[np.ndarray, " steps"]


def adaptation_rate(
    epochs: Float[np.ndarray, " steps"],
    trace: Float[np.ndarray, "seeds steps"],
    train_loss: Float[np.ndarray, "seeds steps"],
    window: int | float = 20,
) -> AdaptationRate:
    """Trace adaptation rate (BSC eq. 4, App. B.4), with an error that BSC do not give.

    Mean trace and mean logarithm of the loss over the seeds; each averaged over the epochs t − window/2 to
    t + window/2 inside the run (the integral of the straight lines between its values, so that unequal steps weigh as
    long as they last); then the quotient of their derivatives by the epoch (second order, one-sided at the ends).

    Args:
        epochs: When the values were taken, increasing.
        trace: Tr Θ by seed.
        train_loss: Training loss by seed, > 0.
        window: Epochs to average over; 0 for none.

    Raises:
        ValueError: fewer than two steps, epochs that do not increase, shapes that do not fit.
    """
    epochs, trace, train_loss = (np.asarray(values, dtype=np.float64) for values in (epochs, trace, train_loss))
    if trace.ndim != 2 or trace.shape != train_loss.shape or trace.shape[1:] != epochs.shape or len(trace) == 0:
        raise ValueError(
            f"epochs {list(epochs.shape)}, trace {list(trace.shape)} and train_loss {list(train_loss.shape)}, "
            "expected [steps], [seeds, steps] and the same again: stack the seeds' curves"
        )
    if len(epochs) < 2 or not (np.diff(epochs) > 0).all():
        raise ValueError("epochs must increase, over at least two steps: sort the curves by epoch")
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(train_loss > 0, np.log(train_loss), np.nan)
    # Seed by seed, which comes to the same as the mean's average and lets the jackknife leave seeds out.
    smooth_trace, smooth_log = (
        np.stack([_averaged(epochs, curve, window) for curve in curves]) for curves in (trace, logs)
    )
    rate = _slope(epochs, smooth_trace.mean(0), smooth_log.mean(0))
    stderr = np.full_like(rate, np.nan)
    seeds = len(trace)
    if seeds > 1:
        without = np.stack(
            [
                _slope(epochs, np.delete(smooth_trace, seed, 0).mean(0), np.delete(smooth_log, seed, 0).mean(0))
                for seed in range(seeds)
            ]
        )
        stderr = np.sqrt((seeds - 1) * ((without - without.mean(0)) ** 2).mean(0))
    return AdaptationRate(rate, stderr, smooth_trace.mean(0), smooth_log.mean(0))


def derivatives(
    epochs: Float[np.ndarray, " steps"],
    trace: Float[np.ndarray, "seeds steps"],
    train_loss: Float[np.ndarray, "seeds steps"],
    window: int | float = 20,
) -> tuple[Float64[np.ndarray, "seeds steps"], Float64[np.ndarray, "seeds steps"]]:
    """d Tr Θ/dt and d ln L/dt of each seed's averaged curves; less the quotient of their means is `adaptation_rate`.

    So that an ensemble's rate can be had of any draw of its seeds. Arguments as there.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(train_loss > 0, np.log(train_loss), np.nan)
    of_trace, of_logs = (
        np.stack([np.gradient(_averaged(epochs, curve, window), epochs) for curve in curves])
        for curves in (np.asarray(trace, dtype=np.float64), logs)
    )
    return of_trace, of_logs


def _slope(
    epochs: Float64[np.ndarray, " steps"],
    trace: Float64[np.ndarray, " steps"],
    log_loss: Float64[np.ndarray, " steps"],
) -> Float64[np.ndarray, " steps"]:
    moved = np.gradient(log_loss, epochs)
    return -np.gradient(trace, epochs) / np.where(moved == 0, np.nan, moved)


def _averaged(
    epochs: Float64[np.ndarray, " steps"], curve: Float64[np.ndarray, " steps"], window: int | float
) -> Float64[np.ndarray, " steps"]:
    if window <= 0:
        return curve
    averages = []
    for epoch in epochs:
        first, last = max(epochs[0], epoch - window / 2), min(epochs[-1], epoch + window / 2)
        inside = epochs[(epochs > first) & (epochs < last)]
        nodes = np.array([first, *inside, last])
        averages.append(np.trapezoid(np.interp(nodes, epochs, curve), nodes) / (last - first))
    return np.array(averages)
