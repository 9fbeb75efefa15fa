"""A prober: an actor that takes snapshots from the hub, one at a time, and measures them."""

import uuid
from typing import Any, cast

import ray

from tangentscope.pipeline.probing.ledger import Job
from tangentscope.pipeline.store.failures import state_of
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system import memory
from tangentscope.pipeline.system.errors import one_line
from tangentscope.pipeline.system.loading import without_collections

with without_collections():
    import torch

    from tangentscope.pipeline.probing.measurer import Measurer
    from tangentscope.pipeline.probing.networks import Subject


class Prober:
    """Measures until the hub has nothing more. Dies and starts again without loss: the hub knows what it had in hand.

    Args:
        storage: The study's storage.
        name: Unique among the probers of a launch.
        threads: Threads for tensor operations.
        memory_bytes: What a kernel may take.
        subject: Where networks and losses come from.
    """

    def __init__(self, storage: Storage, name: str, threads: int, memory_bytes: int, subject: Subject) -> None:
        memory.keep_freed()
        torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu")
        self.name = name
        self.measurer = Measurer(storage, Store(storage).plan, device, memory_bytes, subject)

    def work(self, hub: Any) -> None:
        """Take, measure and deliver until the hub closes."""
        life = uuid.uuid4().hex
        ray.get(hub.hello.remote(self.name, life))
        while (job := cast(Job | None, ray.get(hub.take.remote(self.name, life)))) is not None:
            try:
                rows = self.measurer.measure(job)
            except Exception as error:
                ray.get(hub.give_back.remote(job.ticket, one_line(error), state_of(error)))
            else:
                ray.get(hub.deliver.remote(job.ticket, rows))
