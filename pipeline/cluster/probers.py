"""The probers of a launch: their share of the cluster, their start, and those that follow when training is over."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
import ray.exceptions
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tangentscope.pipeline.cluster.prober import Prober
from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.probing.networks import Subject
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.status import NO_ANSWER, HubStatus
from tangentscope.pipeline.system.errors import UserError

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
        self, storage: Storage, resources: Resources, subject: Subject, wait: Callable[[HubStatus], None]
    ) -> None:
        self.storage, self.resources, self.subject = storage, resources, subject
        self._actors: list[Any] = []
        self._up: list[Any] = []
        self._work: list[Any] = []
        self._following: dict[str, Any] = {}  # what those who followed and are alive are at, by name
        probe = resources.probe
        self._pool: PlacementGroup = placement_group(
            [{name: float(amount) for name, amount in probe.share.items() if amount} for _ in range(probe.actors)],
            strategy="PACK",
            bundle_label_selector=[dict(probe.labels) for _ in range(probe.actors)],
        )
        reserved = self._pool.ready()
        try:
            while not ray.wait([reserved], timeout=0.5)[0]:
                wait(NO_ANSWER)  # for nodes to join, or for other jobs to end
        except BaseException:
            self.leave()
            raise

    def begin(self, hub: Any) -> None:
        """Start them; each asks the hub for work."""
        for k in range(self.resources.probe.actors):
            place = PlacementGroupSchedulingStrategy(self._pool, placement_group_bundle_index=k)
            actor, _ = self._started(scheduling_strategy=place, **SURVIVE)
            self._up.append(actor.__ray_ready__.remote())
            self._work.append(actor.work.remote(hub))

    def check(self) -> None:
        """Wait until they are up; raise UserError if they cannot load what they were given."""
        try:
            ray.get(self._up)
        except ray.exceptions.RayError as error:
            cause = str(error).strip().splitlines()[-1].strip()
            mend = "define network and loss in the script itself, or in a module that every machine can import"
            raise UserError(f"the probers cannot load the network and its loss ({cause}); {mend}") from error

    def follow(self, hub: Any, waiting: int, backlog: float) -> None:
        """Let one more take the place of workers that have trained, if it is worth its start and there is room.

        Nobody waits for it. If it dies nobody starts it again, and what it had in hand goes to another.

        Args:
            hub: Whom it asks for work.
            waiting: Snapshots that nobody measures yet.
            backlog: Seconds that one prober would need for them.
        """
        for name, work in tuple(self._following.items()):
            if ray.wait([work], timeout=0)[0]:
                del self._following[name]
                hub.hello.remote(name, uuid.uuid4().hex)
        most = min(waiting, self.resources.successors)
        alive = len(self._work) + len(self._following)
        if len(self._actors) - len(self._work) >= most or backlog < _WORTH_SECONDS * alive or not self._room:
            return
        actor, name = self._started(label_selector=dict(self.resources.probe.labels))
        self._following[name] = actor.work.remote(hub)

    def go_home(self) -> None:
        """Wait until those that began with the launch have seen that the hub has closed."""
        ray.wait(self._work, num_returns=len(self._work), timeout=_HOME_SECONDS)

    def leave(self) -> None:
        """End them, so that others can have what they hold of the cluster."""
        with suppress(Exception):  # of a cluster that is gone there is nothing to give back, and no error to hide
            for actor in self._actors:
                ray.kill(actor)
            remove_placement_group(self._pool)

    @property
    def _room(self) -> bool:
        """Whether the cluster has room for one more; on which nodes is not asked."""
        free = ray.available_resources()
        return all(free.get(name, 0.0) >= amount for name, amount in self.resources.probe.share.items())

    def _started(self, **options: Any) -> tuple[Any, str]:
        """One more, and its name."""
        probe, name = self.resources.probe, f"prober-{len(self._actors)}"
        options |= {"num_cpus": probe.cpu, "num_gpus": probe.gpu}
        arguments = (self.storage, name, probe.cpu, probe.memory_bytes, self.subject)
        self._actors.append(ray.remote(Prober).options(**options).remote(*arguments))
        return self._actors[-1], name
