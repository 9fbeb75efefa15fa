"""The backward sweep: a pass for each function, all of them segment by segment."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from tangentscope.probes.kernels.gradients.autograd_graph import Edge, Graph, Segment, dense
from tangentscope.probes.kernels.treatment import OutputRows


def merged(segments: Sequence[Segment], size: Callable[[Edge], int], budget: int) -> list[Segment]:
    """Neighbouring segments joined while what they want fits the budget: fewer, longer backward passes."""
    joined: list[Segment] = []
    held = 0
    for segment in segments:
        needed = sum(size(edge) for edge in segment.wanted)
        if joined and held + needed <= budget:
            joined[-1] = Segment(joined[-1].wanted + segment.wanted, segment.leads_on)
            held += needed
        else:
            joined.append(segment)
            held = needed
    return joined


def sweep(
    graph: Graph,
    rows: OutputRows,
    slopes: Tensor,
    segments: Sequence[Segment],
    collect: Callable[[Edge, int, Tensor], None],
    together: bool = False,
    keep: bool = False,
) -> Iterator[int]:
    """One backward pass for each function of ``rows``, all of them segment by segment; yields after each segment.

    slopes: see ``Graph.slopes``. ``collect(edge, k, gradient)`` is called for every wanted edge that the outputs depend
    on. What the forward pass saved is freed as the sweep passes it. Between segments only the gradients at one edge are
    held.
    together: one pass for all functions, where there is one segment and ``graph.batches``.
    keep: what the forward pass saved stays.
    """
    head = graph.head([edge for segment in segments for edge in segment.wanted])
    entered = GradientEdge(*head.rows) if head else graph.root
    count = rows.functions

    def started(k: int) -> Tensor:
        gradient = rows.cotangent(k, slopes)
        if head is None:
            return gradient
        gradient *= slopes
        if graph.end in segments[0].wanted:
            collect(graph.end, k, gradient)
        # Most often of one output: many outputs times many points would be the dearest product of all.
        chosen = rows.outputs_of(k)
        return gradient[:, chosen] @ head.matrix.T[chosen]

    held: list[Tensor | None] = []
    for number, segment in enumerate(segments):
        leads_on = segment.leads_on
        if head and leads_on == graph.end:  # nothing lies between that and the outputs
            held = [started(k) for k in range(count)]
            yield number
            continue
        wanted: list[Edge] = [*segment.wanted]
        if leads_on and leads_on not in wanted:
            wanted.append(leads_on)
        next_held: list[Tensor | None] = [None] * count
        seeds = _let_go(held) if number else map(started, range(count))
        for k, found in enumerate(_backward(entered, wanted, seeds, count, together, keep)):
            for edge, value in zip(wanted, found, strict=True):
                if value is not None and edge in segment.wanted:
                    collect(edge, k, dense(value))
                if edge == leads_on:
                    next_held[k] = value
        held, entered = next_held, GradientEdge(*leads_on) if leads_on else graph.root
        yield number


def _let_go(held: list[Tensor | None]) -> Iterator[Tensor | None]:
    while held:
        yield held.pop(0)


def _backward(
    entered: GradientEdge,
    wanted: Sequence[Edge],
    seeds: Iterable[Tensor | None],
    count: int,
    together: bool,
    keep: bool,
) -> Iterator[tuple[Tensor | None, ...]]:
    """For each of ``count`` seeds at the edge entered, the gradients at the edges wanted; frees what it passes.

    keep: it does not.
    """
    edges = [GradientEdge(*edge) for edge in wanted]
    if together:
        seeds = [seed for seed in seeds if seed is not None]
        if (found := _at_once(entered, edges, torch.stack(seeds))) is not None:
            yield from zip(*([None] * count if values is None else values for values in found), strict=True)
            return
    for k, seed in enumerate(seeds):
        if seed is None:
            yield (None,) * len(edges)
        else:
            yield torch.autograd.grad([entered], edges, [seed], retain_graph=keep or k + 1 < count, allow_unused=True)


def _at_once(entered: GradientEdge, edges: Sequence[GradientEdge], seeds: Tensor) -> tuple[Tensor | None, ...] | None:
    """The gradients of all seeds [count, ...] in one pass; None where a hook asks for their numbers."""
    with suppress(RuntimeError):
        return torch.autograd.grad(
            [entered], edges, [seeds], is_grads_batched=True, retain_graph=True, allow_unused=True
        )
    return None
