"""Random generators: what they would draw next, kept for their user."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch


@contextmanager
def random_kept(device: torch.device) -> Iterator[None]:
    """The global generators of torch (of the CPU, and of ``device``), Python and numpy go on afterwards as before."""
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state(legacy=False))
        stack.callback(torch.set_rng_state, torch.get_rng_state())
        if device.type == "cuda":
            stack.callback(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
        yield


def rewinder(generator: Any) -> Callable[[], object] | None:
    """A function that takes a generator object back to where it is now; None where ``generator`` is none."""
    kind = type(generator)  # what objects say of their class themselves can be dear to ask
    if issubclass(kind, torch.Generator):
        return partial(generator.set_state, generator.get_state())
    if issubclass(kind, random.Random):
        return partial(generator.setstate, generator.getstate())
    if issubclass(kind, np.random.RandomState):
        return partial(generator.set_state, generator.get_state(legacy=False))
    if issubclass(kind, np.random.Generator):
        return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    return None
