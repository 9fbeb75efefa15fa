"""Functions on a sample of data points, brought into few numbers: inner products stay as they are.

n values of a function become coordinates in a space of as few dimensions as there are functions, by a QR decomposition
of all of them together, a block of points at a time. Singular values, projections and means then come of the
coordinates, as precisely as of the values, and in memory that does not grow with the points.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

LEAST_ROWS = 2048
"""Points in a block, if there are not many functions: fewer make its decomposition slower."""


@dataclass(frozen=True)
class Sample:
    """Functions on n data points, by their coordinates: ⟨f|g⟩, the mean of f·g over the points, is the dot product.

    Shapes: q coordinates, at most as many as there are functions or points; p features, O outputs, D targets.
    """

    points: int
    features: Float64[Tensor, "q p"]
    outputs: Float64[Tensor, "q O"]
    targets: Float64[Tensor, "q D"]
    constant: Float64[Tensor, " q"]

    def centred(self, functions: Float64[Tensor, "q functions"]) -> Float64[Tensor, "q functions"]:
        """The functions less their means over the points: (1 − |1⟩⟨1|) f, as eq. 2.9 has it."""
        return functions - self.constant[:, None] * (self.constant @ functions)


def coordinates(blocks: Iterable[Float64[Tensor, "rows functions"]], points: int) -> Float64[Tensor, "q functions"]:
    """Of functions whose values come a block of points at a time; their dot products are means over all points."""
    triangle = None
    for block in blocks:
        rows = block if triangle is None else torch.cat([triangle, block])
        triangle = torch.linalg.qr(rows, mode="r").R
    assert triangle is not None  # there are no batches without points
    return triangle / points**0.5


def blocks_of(points: int, functions: int) -> Iterator[slice]:
    """Slices of the points, large enough for the decomposition of so many functions."""
    rows = max(LEAST_ROWS, 4 * functions)
    return (slice(start, start + rows) for start in range(0, points, rows))
