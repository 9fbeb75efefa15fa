"""What is told from curves over training: functions of numbers alone, such as a study's table holds."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

FLAT, COMPRESSION, FORMATION = "flat", "compression-only", "formation-only"
COMPRESSION_THEN_FORMATION = "compression-then-formation"

MARGIN = 0.02
"""Of the entropy at the start; less is drift that also shows between two draws of the probe points."""


def trace_ratio(trace: Float[np.ndarray, " steps"], test_loss: Float[np.ndarray, " steps"]) -> float:
    """(Tr Θ* − Tr Θ_0)/Tr Θ_0, * the step of the least test loss (BSC eq. 5), the first of equals; → 0 for kernels.

    Args:
        trace: Tr Θ at successive steps, the first at initialisation.
        test_loss: Of the same steps.

    Returns:
        The ratio, ≥ −1; NaN if any loss is NaN, which leaves the least one open, or if Tr Θ_0 = 0.

    Raises:
        ValueError: no steps, or curves of different lengths.
    """
    trace, test_loss = _curves(trace=trace, test_loss=test_loss)
    if np.isnan(test_loss).any() or trace[0] == 0:
        return math.nan
    return float((trace[np.argmin(test_loss)] - trace[0]) / trace[0])


def reach(spectral_position: Float[np.ndarray, " steps"]) -> float:
    """Least spectral position over training (Nikolaou 2026): how far into the tail learning got; NaN if any is.

    Raises:
        ValueError: no steps.
    """
    (positions,) = _curves(spectral_position=spectral_position)
    return float(positions.min())


def learning_time(times: ArrayLike, accuracy: ArrayLike, share: float = 0.95) -> float:
    """The first of `times` at which the accuracy has come to `share` of its last value.

    Args:
        times: Steps or epochs, ascending.
        accuracy: At these times, in [0, 1].
        share: Of the last accuracy, in (0, 1].

    Returns:
        The time, one of `times`; NaN if any accuracy is NaN, or if the last one is 0 and there is nothing to reach.

    Raises:
        ValueError: no times, or curves of different lengths.
    """
    times, accuracy = _curves(times=np.asarray(times), accuracy=np.asarray(accuracy))
    if np.isnan(accuracy).any() or accuracy[-1] <= 0:
        return math.nan
    return float(times[np.argmax(accuracy >= share * accuracy[-1])])


def generalisation_delay(
    times: ArrayLike, train_accuracy: ArrayLike, test_accuracy: ArrayLike, share: float = 0.95
) -> float:
    """t_test/t_train, the times at which either accuracy has come to `share` of its last value; ≫ 1 is grokking.

    Power et al. 2022; Nam §6.4.2. Arguments and errors as in `learning_time`; both curves are of the same times.

    Returns:
        The ratio; NaN if either time is NaN, or if the train accuracy is there at time 0, before anything was learned.
    """
    train, test = (learning_time(times, accuracy, share) for accuracy in (train_accuracy, test_accuracy))
    return test / train if train > 0 else math.nan


@dataclass(frozen=True)
class Regime:
    """The smoothed entropy's landmarks in nats, and what they amount to."""

    label: str
    start: float
    minimum: float
    end: float
    margin: float

    @property
    def rebound(self) -> float:
        """How far the entropy rose from its minimum, S_end − S_min, in nats."""
        return self.end - self.minimum

    @property
    def net(self) -> float:
        """How far the entropy ended from where it began, S_end − S_0, in nats."""
        return self.end - self.start


def learning_regime(entropy: ArrayLike, stderr: ArrayLike | None = None) -> Regime | None:
    """The learning regime that an entropy curve tells (CV §3.1, §4, abstract).

    CV §3.1: compression is a falling entropy; after it, larger networks form structure, seen in a rising one, while
    small networks stay low. CV, abstract: structure formation goes "beyond the prior established by the network at
    initialization". With S_0 the entropy at initialisation, S_min the least, S_end the last one of the curve smoothed
    by ``running_mean``, and a margin of max(0.02 S_0, 2 standard errors over draws):

    ==========================  ====================================================
    compression-only            S_0 − S_min > margin, S_end − S_min ≤ margin
    compression-then-formation  S_0 − S_min > margin, S_end − S_min > margin
    formation-only              S_0 − S_min ≤ margin, S_end − S_0 > margin
    flat                        neither; also a rise that was lost again by the end
    ==========================  ====================================================

    After compression, any rise beyond the margin counts as formation; whether it went beyond the prior is the sign
    of :attr:`Regime.net`. Without compression only the net rise counts, so a dip within the margin lends it nothing.

    Args:
        entropy: Entropy in nats at successive steps, the first at initialisation. Values that are not finite are
            passed over.
        stderr: Their standard errors over draws in nats. The largest of the three landmarks' sets the margin.

    Returns:
        The regime, or None if the first or the last value is not finite or fewer than three are: a run that diverged
        is in no regime.
    """
    values = np.asarray(entropy, dtype=float)
    errors = np.zeros_like(values) if stderr is None else np.nan_to_num(np.asarray(stderr, dtype=float))
    finite = np.isfinite(values)
    if finite.sum() < 3 or not finite[0] or not finite[-1]:
        return None
    smooth, errors = running_mean(values[finite]), errors[finite]
    least = int(np.argmin(smooth))
    start, minimum, end = float(smooth[0]), float(smooth[least]), float(smooth[-1])
    margin = max(MARGIN * start, 2 * float(max(errors[0], errors[least], errors[-1])))
    if start - minimum > margin:
        label = COMPRESSION_THEN_FORMATION if end - minimum > margin else COMPRESSION
    else:
        label = FORMATION if end - start > margin else FLAT
    return Regime(label, start, minimum, end, margin)


def running_mean(values: Float64[np.ndarray, " steps"]) -> Float64[np.ndarray, " steps"]:
    """Mean of each value and its neighbours, one at the end. The first stays: it is the prior, no neighbour is."""
    padded = np.concatenate([values, [np.nan]])
    smooth = np.nanmean([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    return np.concatenate([values[:1], smooth])


def running_average(values: Float64[np.ndarray, " steps"], window: int) -> Float64[np.ndarray, " steps"]:
    """Mean over `window` successive values around each, as many on either side; fewer towards the ends, which stay.

    What is not finite enters no mean and is NaN itself.

    Raises:
        ValueError: a window that is even or below 1.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is {window}, expected 1, 3, 5 …: as many values on either side of each")
    values = np.where(np.isfinite(values), values, np.nan)
    half = [min(window // 2, place, len(values) - 1 - place) for place in range(len(values))]
    return np.array(
        [
            np.nanmean(values[place - reach : place + reach + 1]) if np.isfinite(values[place]) else np.nan
            for place, reach in enumerate(half)
        ]
    )


def _curves(**curves: np.ndarray) -> list[Float64[np.ndarray, " steps"]]:
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in curves.items()}
    if len({array.shape for array in arrays.values()}) > 1 or any(a.ndim != 1 or len(a) == 0 for a in arrays.values()):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"{shapes}: expected one value per step, at least one step: give curves of the same steps")
    return list(arrays.values())
