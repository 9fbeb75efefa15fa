"""The probers of a launch: their share of the cluster, their start, and those that follow when training is over."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
import ray.exceptions
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.cluster.prober import Prober
from pipeline.errors import UserError
from pipeline.resources import Resources
from pipeline.storage import Storage
from pipeline.subjects import Subject

# Ray starts a dead actor again and repeats the calls it missed; it rebuilds what it knew from storage.
SURVIVE: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1}

_HOME_SECONDS = 10.0  # how long probers may take to see that the hub has closed
_WORTH_SECONDS = 20.0  # of measuring left to each prober: one more is up after about half of that


class Probers:
    """Actors that measure. Their share of the cluster is theirs before a trainer starts.

    Args:
        storage: The study's.
        resources: The study's.
        subject: Where they get networks and losses from.
        wait: Called about twice a second while the cluster has no room for them; may raise to end the launch.
    """

    def __init__(
        self, storage: Storage, resources: Resources, subject: Subject, wait: Callable[[dict[str, Any]], None]
    ) -> None:
        self.storage, self.resources, self.subject = storage, resources, subject
        self._pools: list[PlacementGroup] = []
        self._actors: list[Any] = []
        self._work: list[Any] = []
        self._successors = resources.successors
        reserved = self._reserve(resources.probe.actors).ready()
        try:
            while not ray.wait([reserved], timeout=0.5)[0]:
                wait({})  # for nodes to join, or for other jobs to end
        except BaseException:
            self.leave()
            raise

    def begin(self, hub: Any) -> None:
        """Start them; each asks the hub for work."""
        self._start(hub)
        self._up = [actor.__ray_ready__.remote() for actor in self._actors]

    def check(self) -> None:
        """Wait until they are up; raise UserError if they cannot load what they were given."""
        try:
            ray.get(self._up)
        except ray.exceptions.RayError as error:
            cause = str(error).strip().splitlines()[-1].strip()
            mend = "define network and loss in the script itself, or in a module that every machine can import"
            raise UserError(f"the probers cannot load the network and its loss ({cause}); {mend}") from error

    def succeed(self, hub: Any, backlog: float) -> None:
        """Start more of them where workers have trained, once, if the backlog is worth it and the room is free.

        Nobody waits for these, as they may come too late.

        Args:
            hub: Whom they ask for work.
            backlog: Seconds that one prober would need for what waits.
        """
        count = self._successors
        if not count or backlog < _WORTH_SECONDS * len(self._actors):
            return
        free = ray.available_resources()
        if all(free.get(name, 0.0) >= count * amount for name, amount in self.resources.probe.share.items()):
            self._successors = 0
            self._reserve(count)
            self._start(hub)

    def go_home(self) -> None:
        """Wait until those that began with the launch have seen that the hub has closed."""
        first = self._work[: self.resources.probe.actors]
        ray.wait(first, num_returns=len(first), timeout=_HOME_SECONDS)

    def leave(self) -> None:
        """End them, so that others can have what they hold of the cluster."""
        with suppress(Exception):  # of a cluster that is gone there is nothing to give back, and no error to hide
            for actor in self._actors:
                ray.kill(actor)
            for pool in self._pools:
                remove_placement_group(pool)

    def _reserve(self, count: int) -> PlacementGroup:
        probe = self.resources.probe
        share = {name: float(amount) for name, amount in probe.share.items() if amount}
        pool = placement_group(
            [dict(share) for _ in range(count)],
            strategy="PACK",
            bundle_label_selector=[dict(probe.labels) for _ in range(count)],
        )
        self._pools.append(pool)
        return pool

    def _start(self, hub: Any) -> None:
        """Start a prober in each place of the pool that was reserved last."""
        pool, probe, prober = self._pools[-1], self.resources.probe, ray.remote(Prober)
        for k in range(pool.bundle_count):
            place = PlacementGroupSchedulingStrategy(pool, placement_group_bundle_index=k)
            options: dict[str, Any] = {"num_cpus": probe.cpu, "num_gpus": probe.gpu, "scheduling_strategy": place}
            name = f"prober-{len(self._actors)}"
            arguments = (self.storage, name, probe.cpu, probe.memory_bytes, self.subject)
            self._actors.append(prober.options(**options, **SURVIVE).remote(*arguments))
            self._work.append(self._actors[-1].work.remote(hub))
