"""Subsampled measurement: kernels of several small draws of points, and their variables with error bars.

The draws are a pure function of their arguments, so that a run measures the same points at every step and a curve
shows the network's change and not the sampling's.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor, nn

from probes.kernels import OutputTreatment, tangent_kernel
from probes.spectrum import Spectrum
from probes.variables import check_names, evaluate
from probes.variables.needs import known_from, resolve


@dataclass(frozen=True)
class Measurement:
    """Variables of the kernels of several draws of points, draw by draw.

    outputs: the output treatment of the kernels.
    values: by variable, one value per draw; NaN where a draw's kernel is not finite or the variable is undefined.
    eigenvalues: descending in each draw, clipped to ≥ 0.
    clipped_mass: by draw, see ``Spectrum``.
    """

    outputs: OutputTreatment
    values: dict[str, Float64[np.ndarray, " draws"]]
    eigenvalues: Float64[np.ndarray, "draws side"]
    clipped_mass: Float64[np.ndarray, " draws"]

    def mean(self, name: str) -> float:
        """Mean over the draws; NaN if any draw is, since leaving draws out would hide a broken network."""
        return float(np.mean(self._values(name)))

    def stderr(self, name: str) -> float:
        """Standard error of the mean, sd (ddof = 1) / √draws; NaN with one draw, which cannot tell, or any NaN draw.

        It describes the sampling of points of one network, not the spread between networks.
        """
        values = self._values(name)
        return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan

    def _values(self, name: str) -> Float64[np.ndarray, " draws"]:
        if name not in self.values:
            raise ValueError(f"{name!r} was not measured, only {', '.join(self.values)}: ask measure() for it")
        return self.values[name]


def draw_indices(population: int, draws: int, size: int, seed: int) -> Int64[np.ndarray, "draws size"]:
    """Indices of ``draws`` samples of ``size`` different points each out of ``population``, in random order.

    A pure function of its arguments (numpy's PCG64); fewer draws with the same seed are the first rows of more.

    Raises:
        ValueError: size > population, or draws or size < 1, or seed < 0.
    """
    if draws < 1 or size < 1:
        raise ValueError(f"draws={draws}, size={size}, expected both at least 1: a measurement needs points")
    if size > population:
        raise ValueError(f"size={size} points cannot be drawn out of {population} without repetition: lower size")
    if seed < 0:
        raise ValueError(f"seed={seed} is negative, expected ≥ 0: choose another")
    generator = np.random.Generator(np.random.PCG64(seed))
    return np.stack([generator.choice(population, size, replace=False) for _ in range(draws)]).astype(np.int64)


def draw_points(
    data: Shaped[Tensor, "population ..."], draws: int, size: int, seed: int
) -> Shaped[Tensor, "draws size ..."]:
    """The points of ``data`` at ``draw_indices(len(data), draws, size, seed)``; same errors."""
    return data[torch.from_numpy(draw_indices(len(data), draws, size, seed)).to(data.device)]


def measure(
    model: nn.Module,
    points: Shaped[Tensor, "draws size ..."],
    outputs: OutputTreatment = "full",
    variables: Iterable[str] = ("trace", "entropy", "effective_rank"),
    *,
    memory_bytes: int | None = None,
) -> Measurement:
    """Variables of the tangent kernel of each draw of points (CV: 200 draws of 20 points).

    Args:
        model: as for ``tangent_kernel``; left as it was.
        points: draws of points, see ``draw_points``.
        outputs: output treatment, as for ``tangent_kernel``.
        variables: names out of ``VARIABLES``.
        memory_bytes: as for ``tangent_kernel``.

    Raises:
        ValueError: unknown variable; no draws; whatever ``tangent_kernel`` raises.
        TypeError: points are not a tensor; whatever ``tangent_kernel`` raises.
    """
    names = check_names(variables)
    if not isinstance(points, Tensor):
        raise TypeError(f"points are a {type(points).__name__}, expected a tensor [draws, size, ...]: see draw_points")
    if points.dim() < 2 or len(points) == 0:
        raise ValueError(
            f"points have shape {list(points.shape)}, expected [draws, size, ...] with draws ≥ 1: see draw_points"
        )
    values: dict[str, list[float]] = {name: [] for name in names}
    spectra: list[Spectrum] = []
    for draw in points:
        known = known_from(tangent_kernel(model, draw, outputs, memory_bytes=memory_bytes))
        for name, value in evaluate(names, known).items():
            values[name].append(value)
        spectra.append(resolve("spectrum", known))
    return Measurement(
        outputs=outputs,
        values={name: np.array(drawn, dtype=np.float64) for name, drawn in values.items()},
        eigenvalues=np.stack([spectrum.eigenvalues for spectrum in spectra]),
        clipped_mass=np.array([spectrum.clipped_mass for spectrum in spectra], dtype=np.float64),
    )
