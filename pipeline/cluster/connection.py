"""A connection to a Ray cluster that is fit for what is to run there, or a Ray of this machine's own."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.cluster.losses import Carriers
from pipeline.cluster.nodes import check_labels, refuse_labels
from pipeline.errors import Lost, UserError, one_line
from pipeline.interrupts import apart, same_handlers
from pipeline.resources import Resources
from pipeline.storage import Storage

_OBJECT_STORE_BYTES = 256 * 2**20  # nothing large goes through the object store: snapshots are files


@contextmanager
def connected(address: str | None, studies: Sequence[tuple[Resources, Storage]]) -> Iterator[Callable[[], None]]:
    """A connection to the Ray cluster at `address`, or to one of this machine's own that ends with the block.

    A Ray of this machine's own is as large as the most demanding of the studies wants it. The block is given what looks
    whether it is alive, and raises Lost if it is not.

    Raises:
        UserError: No cluster there, fewer GPUs than a study asks for, labels that no node has, or a storage that not
            all of it can see.
    """
    wanted = [resources.wants for resources, _ in studies]
    gpus = max(want["GPU"] for want in wanted)
    if ray.is_initialized():
        raise UserError("this process is connected to a Ray already, and one is all it can have; call ray.shutdown()")
    if address is None:
        for resources, _ in studies:
            refuse_labels(resources)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with same_handlers():  # Ray sets handlers of its own when it connects
        _connect(address, max(int(want["CPU"]) for want in wanted), quiet)
    carriers = Carriers.of_this_process() if address is None else Carriers()
    try:
        if address is None and (there := ray.cluster_resources().get("GPU", 0)) < gpus:
            mend = "lower train.gpu or probe.gpu"
            raise UserError(f"resources: the study asks for {gpus:g} GPUs, this machine has {there:g}; {mend}")
        alive = [node for node in ray.nodes() if node["Alive"]]
        for resources, storage in studies:
            check_seen(storage, {node["NodeManagerHostname"] for node in alive}, resources.shared)
            check_labels(resources, [node["Labels"] for node in alive])
        yield carriers.check
    finally:
        if not carriers.end_if_lost():
            ray.shutdown()


def room_for(resources: Resources) -> bool:
    """Whether the cluster has all that a study wants, free at this moment."""
    free = ray.available_resources()
    return all(free.get(name, 0.0) >= amount for name, amount in resources.wants.items())


def check_seen(storage: Storage, hosts: set[str], shared: bool) -> None:
    """Raise UserError if storage is a directory of one machine and the cluster has several."""
    if storage.local is not None and len(hosts) > 1 and not shared:
        raise UserError(
            f"output {storage.uri} is a local path, and the cluster has the machines {', '.join(sorted(hosts))}; "
            "give a URI such as s3://bucket/study, or resources.shared=true if all of them see this directory"
        )


def _connect(address: str | None, cpus: int, quiet: dict[str, Any]) -> None:
    if address is None:
        # An actor that looks out for nodes that are taken away: there is only this one, and it takes seconds to start.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # On fewer cores than that everything still runs, only in turns.
        own = {"num_cpus": max(cpus, os.cpu_count() or 1), "object_store_memory": _OBJECT_STORE_BYTES}
        # A file left by an earlier cluster would make a bare init look for that one: hence "local".
        try:
            with apart():
                ray.init(address="local", include_dashboard=False, **own, **quiet)
        except Exception as error:  # as on a machine that is too busy for it
            raise Lost(f"it did not start: {one_line(error)}") from error
        return
    try:
        ray.init(address=address, **quiet)
    except Exception as error:
        mend = "leave --address out to use this machine"
        raise UserError(f"no Ray cluster at {address}: {one_line(error)}; {mend}") from None
