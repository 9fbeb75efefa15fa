"""One side of a block: the backward sweep of its points, and what it collects of every share."""

from collections.abc import Iterator, Sequence

import torch

from tangentscope.probes.kernels.engine.backward_sweep import merged, sweep
from tangentscope.probes.kernels.engine.buffer_pool import Spare
from tangentscope.probes.kernels.engine.gradient_store import Decision, Store
from tangentscope.probes.kernels.gradients.autograd_graph import Edge, Segment, edge_shape
from tangentscope.probes.kernels.gradients.observation import Observation
from tangentscope.probes.kernels.gradients.parameter_groups import Share
from tangentscope.probes.kernels.treatment import OutputRows

MERGED_BYTES = 2**24
"""Segments are swept together while they collect less: passes over short ones cost more than they free."""

Use = tuple[int, int]
"""Number of a share, and of one of its uses."""


class Side:
    """Collects the per-sample gradients of ``shares``, all of which are shares of ``observation``.

    workspace: bytes up to which gradients of all functions may be under way together.
    """

    def __init__(
        self,
        observation: Observation,
        shares: Sequence[Share],
        decisions: Sequence[Decision],
        rows: OutputRows,
        dtype: torch.dtype,
        workspace: int,
    ):
        self.observation, self.rows = observation, rows
        self.points = len(observation.batch)
        self.uses = uses_by_edge(shares)
        spare = Spare(dtype)
        self.stores = {
            number: Store(share, decision, self.points, rows.functions, dtype, spare)
            for number, (share, decision) in enumerate(zip(shares, decisions, strict=True))
        }
        self.slopes = observation.graph.slopes(observation.outputs)
        for store in self.stores.values():
            if store.share.ends:
                store.end(rows.scale * self.slopes)
        self._bytes = [self.points * decision.point_bytes for decision in decisions]
        natural = observation.graph.segments(list(self.uses)) if self.uses else []
        self.segments = merged(natural, self._collected_bytes, MERGED_BYTES)
        found = sum(edge_shape(edge).numel() for edge in self.uses) * rows.functions * dtype.itemsize
        self.together = 2 * found <= workspace and observation.graph.batches

    @property
    def plan(self) -> list[set[Use]]:
        """The uses that each segment collects."""
        return [{use for edge in segment.wanted for use in self.uses[edge]} for segment in self.segments]

    def in_one_piece(self) -> None:
        """Sweep without a stop."""
        self.segments = [Segment(tuple(self.uses), None)] if self.uses else []

    def sweep(self) -> Iterator[int]:
        """Collect; yields after each segment."""

        def collect(edge: Edge, k: int, gradient: torch.Tensor) -> None:
            for number, use in self.uses[edge]:
                self.stores[number].collect(use, k, gradient)

        yield from sweep(
            self.observation.graph,
            self.rows,
            self.slopes,
            self.segments,
            collect,
            together=self.together and len(self.segments) == 1,
            keep=any(store.share.late for store in self.stores.values()),
        )

    def _collected_bytes(self, edge: Edge) -> int:
        return sum(self._bytes[number] for number, use in self.uses[edge] if use == 0)


def uses_by_edge(shares: Sequence[Share]) -> dict[Edge, list[Use]]:
    """Which uses of which shares each edge of the graph serves; what gives the outputs has its gradients already."""
    uses: dict[Edge, list[Use]] = {}
    for number, share in enumerate(shares):
        for use, (edge, _) in enumerate(() if share.ends else share.uses):
            uses.setdefault(edge, []).append((number, use))
    return uses
