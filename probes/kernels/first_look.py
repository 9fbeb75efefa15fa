"""A first look at a network, before any work starts: what it gives for few points, and whether those mix."""

from contextlib import suppress

import torch
from torch import Tensor

from tangentscope.probes.kernels.gradients.observation import (
    NoDependenceError,
    Observation,
    check_apart,
    check_shape,
    observe,
    outputs_alone,
)
from tangentscope.probes.kernels.gradients.row_layouts import agree
from tangentscope.probes.network.batch import Batch, TensorBatch
from tangentscope.probes.network.checks import check_level
from tangentscope.probes.network.deterministic import run_watched
from tangentscope.probes.network.layers import Anatomy
from tangentscope.probes.network.state import ModuleState, caches


def first_look(anatomy: Anatomy, batch: Batch, state: ModuleState) -> tuple[Observation, Tensor | None]:
    """``sketch_of``; where a parameter is not reached, with the network's caches emptied, if it is reached then.

    A pass without gradients, such as a validation, may have left there what was computed from it.
    """
    error, seen = None, None
    try:
        seen = sketch_of(anatomy, batch)
    except NoDependenceError as raised:
        error = raised
    unreached = [] if seen is None else [key for key in anatomy.names if not seen[0].graph.users[key]]
    if (seen is None or unreached) and (found := caches(anatomy.model)):
        few = batch.sample(2)
        before = check_shape(run_watched(anatomy.modules, few)[0], len(few)).detach()
        state.empty(found)
        with suppress(Exception):  # then they were no caches
            fresh = sketch_of(anatomy, batch)
            reached = seen is None or any(fresh[0].graph.users[key] for key in unreached)
            if reached and agree(fresh[0].values, before.reshape(fresh[0].values.shape), anatomy.rounding):
                return fresh
        state.refill()
    if seen is None:
        assert error is not None
        raise error
    return seen


def sketch_of(anatomy: Anatomy, batch: Batch) -> tuple[Observation, Tensor | None]:
    """Two points that cost as much as any, looked at before any work starts: shapes, and whether points mix.

    Also the outputs of the last point alone, if seen.
    """
    try:
        few = batch.sample(2)
        sketch, last = observe(anatomy, few)
        for point in range(len(few) - 1):
            check_apart(anatomy, few, point, sketch.outputs, outputs_alone(anatomy, few, point))
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # Of few points, a missing batch dimension is hard to tell from other mistakes: what do all of them give?
        found = None
        with suppress(Exception):
            found = batch.run(anatomy.model)
        if found is not None:
            check_level(batch, found)
            check_shape(found, len(batch))
        raise
    return sketch, last if isinstance(batch, TensorBatch) else None  # of graphs it was a large one
