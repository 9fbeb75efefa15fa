"""What each worker of a training group is told, and where it begins.

Ray Train's controller loads this too, and no worker starts before it has: what takes seconds to load waits inside.
"""

from dataclasses import dataclass
from typing import Any

import ray

from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.training.groups import Unit


@dataclass(frozen=True)
class Group:
    """What each worker of a group is told.

    Args:
        launch: The right to publish.
        number: Of the group, by which the hub knows it.
        hub: Its actor's handle.
        data_dir: Where data sets lie.
        pool: What a worker has, and how often it makes a checkpoint.
        start: How often the launch has started the group again.
    """

    launch: Launch
    number: int
    hub: Any
    data_dir: str | None
    pool: TrainPool
    start: int = 0

    def next(self) -> Unit:
        """What to train now; empty when there is nothing more, or when the launch is to stop."""
        return () if self.launch.stopping else ray.get(self.hub.next_unit.remote(self.number))
