"""Products of matrices: rows are those of the factor that comes of the data, one or many a point.

Layers that are called linear, attention's projections, products with a weight that stands first or second, and
those of groups (heads, experts) all come down to these nodes.
"""

from collections.abc import Callable

from torch import Tensor

from tangentscope.probes.kernels.gradients.factors import Dense
from tangentscope.probes.kernels.gradients.per_sample import Direct, Outer, Part, Use, with_ones
from tangentscope.probes.kernels.gradients.row_layouts import Layout
from tangentscope.probes.kernels.gradients.rules.rule import Rule


def _product(use: Use, first: str, second: str, left: int, place: int, bias: bool = False) -> Outer | None:
    """Of [R, d]·[d, C] with the data's factor saved as ``first`` or ``second``; ``left`` is the place of the first."""
    right = place != left
    layout = use.along(0 if right else 1)
    if layout is None or getattr(use.node, "_saved_alpha", 1) != 1:
        return None
    seen = use.saved(first if right else second)  # [R, d_i], or [d_i, C]
    d_i, d_o = (seen.shape[1], use.shape[1]) if right else (seen.shape[0], use.shape[0])
    return _outer(layout, seen, 1, (d_i, d_o), transposed=right, bias=bias)


def _outer(
    layout: Layout, seen: Tensor, groups: int, sizes: tuple[int, int], transposed: bool, bias: bool = False
) -> Outer:
    d_i, d_o = sizes

    def rows(values: Tensor) -> Tensor:  # [N, G, T, d]
        arranged = layout.arrange(values)  # [N, T, d] or [N, T, G, d]
        return arranged[:, None] if groups == 1 and arranged.dim() == 3 else arranged.transpose(1, 2)

    def factor() -> Dense:
        return Dense(with_ones(rows(seen)) if bias else rows(seen))

    return Outer(
        groups=groups,
        inputs=d_i + bias,
        outputs=d_o,
        rows=layout.each,
        factor=factor,
        gradients=lambda gradients: rows(gradients).transpose(2, 3),
        transposed=transposed,
    )


def _bias(use: Use) -> Direct | None:
    """Sums of the gradients over rows, of a bias of one row."""
    layout, shape = use.along(0), use.shapes[0]
    if layout is None or shape[-1:] != use.shape[1:] or shape.numel() != shape[-1] or use.node._saved_beta != 1:
        return None
    return Direct(shape[-1], lambda dtype: lambda gradients: layout.arrange(gradients).sum(1))


def _addmm(use: Use, place: int) -> Part | None:
    return _bias(use) if place == 0 else _product(use, "mat1", "mat2", 1, place)


def _addmm_joint(use: Use) -> Part | None:
    return _product(use, "mat1", "mat2", 1, 2, bias=True) if _bias(use) else None


def _mm(use: Use, place: int) -> Part | None:
    return _product(use, "self", "mat2", 0, place)


def _mv(use: Use, place: int) -> Part | None:
    """[R, d]·[d], of the vector."""
    layout = use.along(0)
    if place != 1 or layout is None:
        return None
    seen = use.saved("self")

    def factor() -> Dense:
        return Dense(layout.arrange(seen)[:, None])

    def gradients(values: Tensor) -> Tensor:
        return layout.arrange(values)[:, None, None]

    return Outer(1, seen.shape[1], 1, layout.each, factor, gradients)


def _grouped(first: str, second: str, left: int) -> Callable[[Use, int], Part | None]:
    """[G, R, d]·[G, d, C] where every group has rows of all points."""

    def part(use: Use, place: int) -> Part | None:
        if place not in (left, left + 1):
            return None
        right = place != left
        layout = use.along(1 if right else 2)
        if layout is None or getattr(use.node, "_saved_alpha", 1) != 1:
            return None
        seen = use.saved(first if right else second)
        sizes = (seen.shape[2], use.shape[2]) if right else (seen.shape[1], use.shape[1])
        return _outer(layout, seen, seen.shape[0], sizes, transposed=right)

    return part


def _real(rule: Callable[[Use, int], Part | None]) -> Callable[[Use, int], Part | None]:
    """Complex numbers have other products, which are left to the nodes themselves."""

    def part(use: Use, place: int) -> Part | None:
        return None if use.is_complex else rule(use, place)

    return part


ADDMM = Rule(_real(_addmm), weight=2, bias=0, joint=_addmm_joint)
MM = Rule(_real(_mm))
MV = Rule(_real(_mv))
BMM = Rule(_real(_grouped("self", "mat2", 0)))
BADDBMM = Rule(_real(_grouped("batch1", "batch2", 1)))
