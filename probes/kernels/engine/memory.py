"""How much memory a kernel may take, and how many points fit into it at a time."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from tangentscope.probes.kernels.engine.costs import Blocks
from tangentscope.probes.kernels.engine.gradient_store import decide
from tangentscope.probes.kernels.gradients.autograd_graph import Edge, Graph, edge_shape
from tangentscope.probes.kernels.gradients.observation import Observation
from tangentscope.probes.network.batch import Batch

SHARE_OF_FREE = 4
"""By default a kernel takes at most this part, one over it, of the free memory."""

WORKSPACE = 2**25
"""Bytes beyond which larger temporaries make products little faster."""

WORKSPACE_LEAST = 2**20
"""Bytes for temporaries that every block may use."""


def ceiling(memory_bytes: int | None, device: torch.device) -> int:
    """The bound in bytes: the caller's, or a power of two within a quarter of what is free.

    A power of two, so that two launches on one machine take the same steps and round alike.

    Raises:
        ValueError: the caller's is not positive.
    """
    if memory_bytes is not None:
        if memory_bytes <= 0:
            raise ValueError(f"memory_bytes={memory_bytes} is not positive: pass a number of bytes, such as 2**29")
        return memory_bytes
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return 1 << max(20, (free // SHARE_OF_FREE).bit_length() - 1)


def saved_bytes(model: nn.Module, sample: Batch) -> int:
    """Bytes that the forward pass of ``sample`` keeps for its backward pass, parameters apart."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, int] = {}  # by memory, of which a sample may be a small part

    def count(saved: Tensor) -> Tensor:
        memory = saved.untyped_storage().data_ptr()
        if memory not in own:
            held[memory] = max(held.get(memory, 0), saved.nbytes)
        return saved.detach()

    try:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
            sample.run(model)
    except RuntimeError:  # functions of torch.func inside the network allow no such hooks: what their outputs take
        graph = Graph(sample.run(model))
        return 2 * sum(edge_shape((node, 0)).numel() * 8 for node in graph.nodes if node._input_metadata)
    return sum(held.values())


@dataclass(frozen=True)
class Room:
    """What points need at most, as bytes for each one of a side.

    passing: what the forward pass saves, and the gradients under way in the backward pass.
    collected: the largest segment's per-sample gradients, in their smallest form.
    """

    passing: int
    collected: int

    def fits(self, free: int, points: int, symmetric: bool) -> bool:
        """Whether a block of ``points`` on its sides fits into ``free`` bytes."""
        return self.needed(points, symmetric) <= free

    def needed(self, points: int, symmetric: bool) -> int:
        """Bytes that a block of ``points`` on its sides takes, kernels apart."""
        sides = 1 if symmetric else 2
        return WORKSPACE_LEAST + 2 * sides * points * max(self.passing, self.collected)


def stores_budget(free: int, symmetric: bool) -> int:
    """Bytes that one side may collect: half of what is free is for passing, see ``Room``."""
    return max(0, free - WORKSPACE_LEAST) // (2 if symmetric else 4)


def room(model: nn.Module, sketch: Observation, blocks: Blocks) -> Room:
    """The room a point takes, from a forward pass of a few points that cost as much as any."""
    points, K, size = len(sketch.batch), blocks.functions, blocks.itemsize
    saved = saved_bytes(model, sketch.batch) // points + 1
    smallest: dict[Edge, int] = defaultdict(int)
    for share in sketch.shares:
        if not share.ends:  # that takes no more than its inputs, which were saved
            smallest[share.uses[0][0]] += decide(share, blocks, 0).point_bytes
    segments = sketch.graph.segments(list(smallest)) if smallest else []
    cuts = [edge_shape(segment.leads_on).numel() for segment in segments if segment.leads_on]
    collected = [sum(smallest[edge] for edge in segment.wanted) for segment in segments]
    under_way = 2 * K * size * max(cuts, default=0) // points
    return Room(passing=2 * saved + under_way, collected=max(collected, default=0))


def points_that_fit(fits: Callable[[int], bool], points: int) -> int:
    """The largest of N, N/2, N/4, … for which it fits; 0 if not even one point does."""
    while points and not fits(points):
        points = 0 if points == 1 else -(-points // 2)
    return points
