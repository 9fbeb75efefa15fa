"""What each exact path through a layer costs, and which is the cheapest.

Multiply-adds count, and so does memory traffic: on CPUs and GPUs alike about ten multiply-adds take as long as
reading or writing one byte. "half" saves multiply-adds against "ghost" and pays with traffic.
"""

from dataclasses import dataclass
from typing import Literal

Path = Literal["outputs", "dense", "ghost", "half", "jacobian"]

MULTIPLY_ADDS_PER_BYTE = 10


@dataclass(frozen=True)
class Blocks:
    """The kernel that is wanted: blocks between n ``points`` and m ``others``, ``draws`` times.

    kept, contracted: R and C, see ``OutputRows``. symmetric: half of the pairs suffice. itemsize: bytes of a number.
    """

    draws: int
    points: int
    others: int
    kept: int
    contracted: int
    symmetric: bool
    itemsize: int

    @property
    def functions(self) -> int:
        """K = R·C."""
        return self.kept * self.contracted

    @property
    def pairs(self) -> int:
        """Pairs of points whose block is computed."""
        pairs = self.points * (self.points + 1) // 2 if self.symmetric else self.points * self.others
        return self.draws * pairs

    @property
    def products(self) -> int:
        """Inner products of per-sample gradients: R²·C for each pair."""
        return self.pairs * self.kept * self.functions

    @property
    def gradients(self) -> int:
        """Per-sample gradients at hand on both sides together: K for each point."""
        return self.draws * (self.points + (0 if self.symmetric else self.others)) * self.functions


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of a path, and the bytes that it moves to and from memory."""

    path: Path
    multiply_adds: int
    traffic: int

    @property
    def weight(self) -> int:
        """What is compared: time, in multiply-adds."""
        return self.multiply_adds + MULTIPLY_ADDS_PER_BYTE * self.traffic


def outer_costs(blocks: Blocks, groups: int, inputs: int, outputs: int, rows: int) -> list[Cost]:
    """The paths of a layer with J_na = Σ_t B_nat ⊗ A_nt: d_i ``inputs``, d_o ``outputs``, T ``rows``.

    Convolutions in groups have one path.
    """
    size, width = blocks.itemsize, groups * inputs * outputs
    entries = blocks.pairs * blocks.kept**2
    written = Cost(
        "jacobian",
        (blocks.gradients * rows + blocks.products) * width,
        size * (2 * blocks.gradients * width + entries),
    )
    if groups > 1:
        return [written]
    if rows == 1:
        return [written, Cost("dense", blocks.pairs * inputs + blocks.products * outputs, 2 * size * entries)]
    gram = blocks.pairs * rows**2
    halves = blocks.pairs * blocks.functions * rows * outputs
    return [
        written,
        Cost("ghost", gram * inputs + blocks.products * rows**2 * outputs, 3 * size * gram * (1 + blocks.kept**2)),
        Cost(
            "half",
            gram * inputs + halves * rows + blocks.products * rows * outputs,
            size * (gram + 3 * halves + entries),
        ),
    ]


def ending_cost(blocks: Blocks, inputs: int, outputs: int) -> Cost:
    """Of the layer that gives the outputs: one function meets itself alone, whatever the treatment."""
    entries = blocks.pairs * blocks.kept
    return Cost("outputs", blocks.pairs * (inputs + outputs), 2 * blocks.itemsize * entries)


def direct_cost(blocks: Blocks, width: int) -> Cost:
    """Of a per-sample gradient of ``width`` numbers that is written down as it comes."""
    return Cost("jacobian", blocks.products * width, blocks.itemsize * blocks.gradients * width)
