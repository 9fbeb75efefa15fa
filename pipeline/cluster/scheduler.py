"""Starting a study's actors and worker groups on Ray, and waiting for them. For `pipeline.driver.run`."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
import ray.exceptions
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tangentscope.pipeline.cluster.controller import Trainer
from tangentscope.pipeline.cluster.group import Group
from tangentscope.pipeline.cluster.group_entry import train_group
from tangentscope.pipeline.cluster.hub import Hub
from tangentscope.pipeline.cluster.loopback import LoopbackConfig, alone
from tangentscope.pipeline.cluster.losses import starts_again
from tangentscope.pipeline.cluster.probers import SURVIVE, Probers
from tangentscope.pipeline.cluster.tracker import TrackerActor
from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.probing.networks import Planned, Subject
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.status import NO_ANSWER, HubStatus
from tangentscope.pipeline.system.errors import Lost, no_room, one_line
from tangentscope.pipeline.training.groups import Unit

_TRACKING_SECONDS = 300.0  # how long the tracker may take for the last rows, figures and reports
_STOP_SECONDS = 20.0  # how long workers may take to checkpoint when the launch is asked to stop
_STARTS = 5  # of a worker group in a launch, each of which outlives deaths of its workers


class Crew:
    """A launch's actors: hub, probers and tracker.

    Args:
        launch: The right to publish.
        resources: The study's.
        tracking_uri: MLflow's, or None to track nothing.
        wait: Called about twice a second while the cluster has no room for the probers; may raise to end the launch.
        units: The runs to train, in portions for worker groups, longest first.
        subject: Where probers get networks and losses from; by default from the study.
    """

    def __init__(
        self,
        launch: Launch,
        resources: Resources,
        tracking_uri: str | None,
        wait: Callable[[HubStatus], None],
        units: Sequence[Unit] = (),
        subject: Subject | None = None,
    ) -> None:
        self.launch, self.resources, self.units = launch, resources, units
        place = hashlib.sha256(launch.storage.uri.encode()).hexdigest()[:12]
        self.probers = Probers(launch.storage, resources, subject or Planned(), wait)
        # Beside the driver: other nodes may be set apart for training or probing, and a database file, or a server that
        # listens on localhost only, are the driver's machine's.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._beside: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": here, **SURVIVE}
        named = f"hub-{place}-{launch.epoch}"
        self.hub: Any = ray.remote(Hub).options(max_concurrency=1000, name=named, **self._beside).remote(launch, units)
        self.probers.begin(self.hub)
        self._tracking_uri = tracking_uri
        self._tracker: Any = None

    def train(self, data_dir: str | None, wait: Callable[[HubStatus], None]) -> list[str]:
        """Train all units, each group of workers the next one whenever it has done with its last.

        Args:
            data_dir: Where workers find data sets.
            wait: Called about twice a second with the hub's status; may raise to end the launch.

        Returns:
            What went wrong with whole groups, one line each; single runs' failures stand in their outcomes.
        """
        causes: list[str] = []
        threads = [
            threading.Thread(target=self._fit, args=(number, data_dir, causes), daemon=True, name=f"group-{number}")
            for number in range(min(self.resources.train.groups, len(self.units)))
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                status = self.status()
                if status.groups:
                    self._track()  # not sooner: what starts beside the workers keeps them waiting
                wait(status)
                if status.halted:
                    raise no_room(status.halted)
                threads[0].join(0.5) if len(threads) == 1 else time.sleep(0.5)
        except Lost:  # nobody is left who could stop
            raise
        except BaseException:
            with suppress(OSError):  # on a full disk the groups end with their connection
                self.launch.stop()
            deadline = time.monotonic() + _STOP_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            raise
        return causes

    def drain(self, wait: Callable[[HubStatus], None], free: Callable[[], bool] = lambda: False) -> None:
        """Wait until all snapshots have been measured and stored, then send the probers home.

        Args:
            wait: Called about twice a second with the hub's status; may raise to end the launch.
            free: Whether more probers may take the place of workers that have trained.
        """
        self._track()
        drained = self.hub.drain.remote()
        while not ray.wait([drained], timeout=0.5)[0]:
            status = self.status()
            if status.answers and free():
                self.probers.follow(self.hub, status.waiting, status.backlog)
            wait(status)
        try:
            ray.get(drained)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # as the hub raised it, without the way it came
        ray.get(self.hub.close.remote())
        self.probers.go_home()

    def dismiss(self) -> None:
        """Send the probers home as they are; what they have delivered is stored, what they have in hand is not."""
        ray.get(self.hub.close.remote())

    def finish_tracking(self) -> tuple[str | None, str | None]:
        """Bring MLflow up to date and end its runs; the experiment's id, or None and what went wrong."""
        if self._tracking_uri is None:
            return None, None
        try:
            self._track()
            return ray.get(self._tracker.finish.remote(), timeout=_TRACKING_SECONDS)
        except (ray.exceptions.RayError, TimeoutError) as error:
            return None, one_line(error)

    def leave(self) -> None:
        """End the actors, so that others can have what they hold of the cluster."""
        self.probers.leave()
        with suppress(Exception):  # of a cluster that is gone there is nothing to give back, and no error to hide
            for actor in (self.hub, self._tracker):
                if actor is not None:
                    ray.kill(actor)

    def status(self) -> HubStatus:
        """What the hub says; `NO_ANSWER` while it is starting."""
        try:
            return ray.get(self.hub.status.remote(), timeout=1.0)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError):
            return NO_ANSWER

    def _track(self) -> None:
        if self._tracker is None and self._tracking_uri is not None:
            self._tracker = (
                ray.remote(TrackerActor).options(**self._beside).remote(self.launch.storage, self._tracking_uri)
            )

    def _fit(self, number: int, data_dir: str | None, causes: list[str]) -> None:
        """Train with one group, started again when what carries it dies; add to `causes` what ends it for good."""
        for start in range(_STARTS):
            try:
                self._trainer(number, start, data_dir).fit()
                return
            except Exception as error:
                if not starts_again(error) or start == _STARTS - 1:
                    causes.append(one_line(error))
                    return

    def _trainer(self, number: int, start: int, data_dir: str | None) -> Trainer:
        train, storage = self.resources.train, self.launch.storage
        group = Group(self.launch, number, self.hub, data_dir, train, start)
        return Trainer(
            train_group,
            train_loop_config={"group": group},
            torch_config=LoopbackConfig() if alone() else None,
            scaling_config=ScalingConfig(
                num_workers=train.workers,
                use_gpu=bool(train.worker_gpu),
                resources_per_worker={"CPU": train.cpu},
                label_selector=dict(train.labels),
            ),
            run_config=RunConfig(
                name=f"launch-{self.launch.epoch}-group-{number}-start-{start}",
                storage_path=storage.path("ray"),
                # Each run may be current at two deaths of the group before it is passed over.
                failure_config=FailureConfig(max_failures=3 * sum(map(len, self.units))),
            ),
        )
