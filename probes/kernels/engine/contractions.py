"""Products of per-sample gradients: one layer's share of the kernel, by the path that the cost model chose.

Shapes: kernels are [draws, n, R, m, R]; B is [draws, n, K, G, d_o, T] with K = R·C functions, of which one is 1.
Where both sides are the same points, only blocks with j ≥ i are computed; the engine mirrors them once at the end.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tangentscope.probes.kernels.engine.matmul import of_long_rows, of_rows
from tangentscope.probes.kernels.gradients.factors import Factor

STRIPES = 8
"""Stripes of points, at most, in which a symmetric product is formed: saves 7/16 of it and keeps temporaries small."""

STRIPE_LEAST, STRIPE_STEP = 64, 16
"""Rows of the kernel in a stripe: thinner ones, and others than multiples, lose in speed what they save in work."""

STRIPE, STRIPE_ROWS = 64, 2048
"""On processors, stripes of written-down gradients' products have 64 rows of the kernel for each 2,048 of all.

That is oneDNN's fastest width, by a tenth and more, and MKL is slower by little than with its own.
"""

ENDING_LEAST = 128
"""Points in a stripe of the layer that ends the network, of which little is multiplied."""

GRAM_AT_ONCE = 2**16
"""Pairs of points up to which the inner products of all their inputs are taken at once: stripe by stripe is slower."""

ROWS_APART = 64
"""With so many rows a point, products of pairs of points are faster apart: what was just written is read at once."""


def add_jacobians(kernel: Tensor, left: Tensor, right: Tensor, symmetric: bool) -> None:
    """Θ += J Jᵀ of written-down gradients [draws, n, K, width]."""
    draws, points, kept, others = kernel.shape[:4]
    target = kernel.view(draws, points * kept, others * kept)
    mine, theirs = (J.reshape(draws, -1, J[0, 0].numel() // kept) for J in (left, right))
    if not symmetric:
        target += of_long_rows(mine, theirs)
        return
    rows = points * kept
    each = STRIPE * math.ceil(rows / STRIPE_ROWS) if kernel.device.type == "cpu" else math.ceil(rows / STRIPES)
    for start in range(0, rows, each):
        stop = start + each
        target[:, :stop, start:stop] += of_long_rows(mine[:, :stop], mine[:, start:stop])


def add_dense(kernel: Tensor, A: tuple[Factor, Factor], B: tuple[Tensor, Tensor], symmetric: bool) -> None:
    """T = 1: Θ += (A Aᵀ) ∘ (B Bᵀ), B as [draws, n, K, d_o]."""

    def inputs(rows: slice, columns: slice) -> Tensor:
        return A[0].gram(rows, A[1], columns)[:, :, 0, :, 0].to(kernel.dtype)

    draws, points, _, others = kernel.shape[:4]
    whole = inputs(slice(points), slice(others)) if draws * points * others <= GRAM_AT_ONCE else None
    for rows, columns in _stripes(kernel, symmetric):
        target = kernel[:, rows, :, columns]
        gram = inputs(rows, columns) if whole is None else whole[:, rows, columns]
        products = of_rows(_rows(B[0], rows, target), _rows(B[1], columns, target))
        # Each entry of the small gram R times along a row: what is contiguous is multiplied several times faster.
        factors = gram.repeat_interleave(target.shape[-1], 2)[:, :, None]
        target = target.flatten(3)
        target.addcmul_(products.view(target.shape), factors)


def add_ending(kernel: Tensor, A: tuple[Factor, Factor], B: tuple[Tensor, Tensor], symmetric: bool) -> None:
    """The layer that gives the outputs: B [draws, n, O] of output a is zero but at a, and Θ_aa += (A Aᵀ) ∘ (B_a B_aᵀ).

    Where outputs are summed over, Θ += (A Aᵀ) ∘ Σ_a B_a B_aᵀ.
    """
    for rows, columns in _stripes(kernel, symmetric, ENDING_LEAST):
        target, left, right = kernel[:, rows, :, columns], B[0][:, rows], B[1][:, columns]
        gram = A[0].gram(rows, A[1], columns)[:, :, 0, :, 0].to(kernel.dtype)
        if kernel.shape[2] == left.shape[2]:
            target.diagonal(dim1=2, dim2=4).addcmul_(gram[..., None], left[:, :, None] * right[:, None])
        else:
            target[:, :, 0, :, 0].addcmul_(gram, left @ right.transpose(1, 2))


def add_ghost(kernel: Tensor, A: tuple[Factor, Factor], B: tuple[Tensor, Tensor], symmetric: bool, chunk: int) -> None:
    """Θ += Σ_ts (A_nt · A_ms)(B_nat · B_mbs), never forming J; ``chunk`` points of the other side at a time."""
    draws, points, kept, others = kernel.shape[:4]
    lengths = _lengths(B, symmetric)
    left, right = (_rows_first(b, kept) for b in B)  # [draws, n, R, T, C·d_o]
    for i in range(points):
        T = lengths[0][i]
        mine = left[:, i, :, :T].reshape(draws, kept * T, -1)
        for first in range(i if symmetric else 0, others, chunk):
            last = min(first + chunk, others)
            S = max(lengths[1][first:last])
            gram = A[0].gram(slice(i, i + 1), A[1], slice(first, last))[:, 0, :T, :, :S].to(kernel.dtype)
            theirs = right[:, first:last, :, :S].reshape(draws, -1, left.shape[-1])
            products = of_rows(mine, theirs).view(draws, kept, T, last - first, kept, S)
            kernel[:, i, :, first:last] += torch.einsum("dtms,datmbs->damb", gram, products)


def add_half(kernel: Tensor, A: tuple[Factor, Factor], B: tuple[Tensor, Tensor], symmetric: bool, chunk: int) -> None:
    """Θ += Σ_t B_nat · (Σ_s (A_nt · A_ms) B_mbs), ``chunk`` points of the other side at a time."""
    draws, points, kept, others = kernel.shape[:4]
    lengths = _lengths(B, symmetric)
    for i in range(points):
        T = lengths[0][i]
        a = B[0][:, i, ..., :T].reshape(draws, kept, -1)  # over C, d_o, T
        for first in range(i if symmetric else 0, others, chunk):
            last = min(first + chunk, others)
            S = max(lengths[1][first:last])
            gram = A[0].gram(slice(i, i + 1), A[1], slice(first, last))[:, 0, :T, :, :S].to(kernel.dtype)
            b = B[1][:, first:last].reshape(draws * (last - first), -1, B[1].shape[-1])[..., :S]
            b = torch.bmm(b, gram.permute(0, 2, 3, 1).reshape(-1, S, T))  # [draws·m, K·d_o, T]
            b = b.view(draws, (last - first) * kept, -1)
            kernel[:, i, :, first:last] += of_rows(a, b).view(draws, kept, last - first, kept)


def add_half_apart(
    kernel: Tensor, A: tuple[Factor, Factor], B: tuple[Tensor, Tensor], symmetric: bool, chunk: int
) -> None:
    """The same of one draw, pair by pair of points; of graphs of unequal size the smaller one keeps its rows."""
    (_, points, kept, others), (left, right) = kernel.shape[:4], (b[0, :, :, 0] for b in B)  # [n, K, d_o, T]
    lengths = _lengths(B, symmetric)
    rows_first = right.stride(2) < right.stride(3)  # in memory: channels of a row lie side by side
    for i in range(points):
        T = lengths[0][i]
        for first in range(i if symmetric else 0, others, chunk):
            last = min(first + chunk, others)
            grams = A[0].gram(slice(i, i + 1), A[1], slice(first, last))[0, 0, :T].to(kernel.dtype)  # [T, m, S]
            for j in range(first, last):
                S = lengths[1][j]
                a, b, gram = left[i, ..., :T], right[j, ..., :S], grams[:, j - first, :S]
                if T <= S:
                    b = _at_rows(gram, b, rows_first)
                else:
                    a = _at_rows(gram.T, a, rows_first)
                kernel[0, i, :, j].addmm_(_flat(a, kept, rows_first), _flat(b, kept, rows_first).T)


def _at_rows(gram: Tensor, b: Tensor, rows_first: bool) -> Tensor:
    """Σ_s gram[t, s] b[..., s]: a point's gradients [K, d_o, S] at the rows of another one, [K, d_o, T]."""
    if rows_first:
        return (gram @ b.transpose(1, 2)).transpose(1, 2)
    return (b.flatten(0, 1) @ gram.T).unflatten(0, b.shape[:2])


def _flat(b: Tensor, kept: int, rows_first: bool) -> Tensor:
    """[K, d_o, T] as R rows of all that is summed over, in the order in which it lies in memory."""
    return (b.transpose(1, 2) if rows_first else b).reshape(kept, -1)


def add_outer_jacobians(
    kernel: Tensor, A: tuple[Factor, Factor], B: tuple[Sequence[Tensor], Sequence[Tensor]], symmetric: bool
) -> None:
    """Θ += J Jᵀ with J_na = Σ_t B_nat ⊗ A_nt written down for a part of B, some outputs of the layer, at a time."""
    rooms: list[Tensor | None] = [None, None]
    for mine, theirs in zip(*B, strict=True):
        left, rooms[0] = _written(A[0], mine, rooms[0])
        right = left
        if not symmetric:
            right, rooms[1] = _written(A[1], theirs, rooms[1])
        add_jacobians(kernel, left, right, symmetric)


def _written(A: Factor, B: Tensor, room: Tensor | None) -> tuple[Tensor, Tensor]:
    """J [draws, n, K, width], in ``room`` where there is one, whose pages need not be cleared; also the room.

    The first of several parts is as large as any.
    """
    size = B.shape[:-1].numel() * A.width
    if room is None:
        room = B.new_empty(size)
    return A.jacobian(B, room[:size]).flatten(3), room


def _stripes(kernel: Tensor, symmetric: bool, least: int = 1) -> Iterator[tuple[slice, slice]]:
    """Blocks of points that cover the kernel, or its upper triangle, there of at least so many points.

    They are columns then: a product of many rows with few columns is up to a tenth faster than one of few with many.
    """
    _, points, kept, others = kernel.shape[:4]
    if not symmetric:
        yield slice(0, points), slice(0, others)
        return
    step = STRIPE_STEP // math.gcd(STRIPE_STEP, kept)  # points
    each = step * math.ceil(max(points / STRIPES, STRIPE_LEAST / kept, least) / step)
    for start in range(0, points, each):
        stop = min(start + each, points)
        yield slice(0, stop), slice(start, stop)


def _rows(gradients: Tensor, points: slice, target: Tensor) -> Tensor:
    """[draws, n, K, ...] of some points as rows (point, R) of all numbers that are summed over."""
    draws, kept = target.shape[0], target.shape[2]
    chosen = gradients[:, points]
    return chosen.reshape(draws, chosen.shape[1] * kept, -1)


def _lengths(B: tuple[Tensor, Tensor], symmetric: bool) -> tuple[list[int], list[int]]:
    """Of each point of both sides, how many of its T rows there are up to the last one that anything depends on.

    Small graphs are filled up with rows that nothing depends on, and so are short sentences.
    """
    found = [_used(gradients) for gradients in (B[:1] if symmetric else B)]
    return found[0], found[-1]


def _used(gradients: Tensor) -> list[int]:
    """Most often one function tells, and only what lies behind its last rows is read of the others."""
    likely = _last_used(gradients[:, :, :1])
    behind = [rows[..., last:].any() for rows, last in zip(gradients.unbind(1), likely, strict=True)]
    return _last_used(gradients) if bool(torch.stack(behind).any()) else likely


def _last_used(gradients: Tensor) -> list[int]:
    used = torch.stack([(of_point != 0).flatten(1, -2).any(1).any(0) for of_point in gradients.unbind(1)])
    places = torch.arange(1, used.shape[1] + 1, device=used.device)
    return (used * places).amax(1).clamp(min=1).tolist()


def _rows_first(B: Tensor, kept: int) -> Tensor:
    """[draws, n, K, 1, d_o, T] as [draws, n, R, T, C·d_o]."""
    rows = B[:, :, :, 0].movedim(-1, 2)  # [draws, n, T, K, d_o]
    rows = rows.unflatten(3, (kept, -1)).movedim(3, 2)  # [draws, n, R, T, C, d_o]
    return rows.flatten(4).contiguous()
