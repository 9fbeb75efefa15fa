"""Which of the learning regimes of CV a run went through, told from the entropy of its tangent kernel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

FLAT, COMPRESSION, FORMATION = "flat", "compression-only", "formation-only"
COMPRESSION_THEN_FORMATION = "compression-then-formation"

_MARGIN = 0.02  # of the entropy at the start; less is drift that also shows between two draws of the probe points


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


def classify(entropy: ArrayLike, stderr: ArrayLike | None = None) -> Regime | None:
    """The regime of an entropy curve.

    CV §3.1: compression is a falling entropy; after it, larger networks form structure, seen in a rising one, while
    small networks stay low. CV, abstract: structure formation goes "beyond the prior established by the network at
    initialization". With S_0 the entropy at initialisation, S_min the least, S_end the last one, and a margin of
    max(0.02 S_0, 2 standard errors over draws):

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
        The regime, or None if initialisation has no finite value or fewer than three steps have one.
    """
    values = np.asarray(entropy, dtype=float)
    errors = np.zeros_like(values) if stderr is None else np.nan_to_num(np.asarray(stderr, dtype=float))
    finite = np.isfinite(values)
    if finite.sum() < 3 or not finite[0] or not finite[-1]:  # one that diverged is in no regime
        return None
    smooth, errors = running_mean(values[finite]), errors[finite]
    least = int(np.argmin(smooth))
    start, minimum, end = float(smooth[0]), float(smooth[least]), float(smooth[-1])
    margin = max(_MARGIN * start, 2 * float(max(errors[0], errors[least], errors[-1])))
    if start - minimum > margin:
        label = COMPRESSION_THEN_FORMATION if end - minimum > margin else COMPRESSION
    else:
        label = FORMATION if end - start > margin else FLAT
    return Regime(label, start, minimum, end, margin)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of each value and its neighbours, one at the end. The first stays: it is the prior, no neighbour is."""
    padded = np.concatenate([values, [np.nan]])
    smooth = np.nanmean([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    return np.concatenate([values[:1], smooth])
