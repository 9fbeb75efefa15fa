"""Ray Train with its controller in the launch's own process, and without actors that nothing here asks for.

Each of these takes a processor for some three seconds to start, most of them one after the other, and no worker starts
before they have; nor can a controller that is no process of its own die alone. All of it is set in private methods:
where Ray's next version has others, what is left out here is back.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray._private.log import PlainRayHandler
from ray.train import Result
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2._internal.logging.logging import LoggingManager

from tangentscope.pipeline.cluster.loopback import alone

# Nothing here reads Ray's datasets; and the cluster itself takes back a launch's placement groups at its end.
_UNUSED = ("DatasetsCallback", "PlacementGroupCleanerCallback")


class Trainer(TorchTrainer):
    """Ray's own, led by the thread that calls `fit`."""

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in _UNUSED]

    def _initialize_and_run_controller(self, **given: Any) -> Result:
        if alone():
            given["scaling_policy"] = _OnOneMachine(self.scaling_config)
        _log_to_files(self.train_run_context)
        controller = _Controller(**given)
        asyncio.run(controller.run())
        return controller.get_result()


def _log_to_files(context: Any) -> None:
    """Have Ray Train log to its session's directory, and not to the console, which is the launch's."""
    LoggingManager.configure_controller_logger(context)
    logger = logging.getLogger("ray.train")
    for handler in [each for each in logger.handlers if isinstance(each, PlainRayHandler)]:
        logger.removeHandler(handler)


class _OnOneMachine(FixedScalingPolicy):
    """Asks no autoscaler for machines: an actor would have to pass it on."""

    def after_controller_start(self, train_run_context: Any) -> None: ...

    def _maybe_send_resource_request(self) -> None: ...


class _Workers(WorkerGroup):
    """Workers that are not told of a controller's actor, which they would ask for checkpoints of Ray Train's alone."""

    def _init_train_context_on_workers(
        self, workers: list[Any], sync_actor: Any, train_context_args: Mapping[str, Sequence[Any]]
    ) -> None:
        own = [{name: values[rank] for name, values in train_context_args.items()} for rank in range(len(workers))]
        begun = [
            worker.actor.init_train_context.remote(
                train_run_context=self._train_run_context,
                distributed_context=worker.distributed_context,
                synchronization_actor=sync_actor,
                storage_context=self._storage_context,
                worker_callbacks=self._worker_callbacks_to_propagate,
                controller_actor=None,
                **given,
            )
            for worker, given in zip(workers, own, strict=True)
        ]
        ray.get(begun)
        self._decorate_worker_log_file_paths(workers)


class _Controller(TrainController):
    worker_group_cls = _Workers
