"""A connection to a Ray cluster that is fit for what is to run there, or a Ray of this machine's own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import ray

from tangentscope.pipeline.cluster import ahead, own_ray
from tangentscope.pipeline.cluster.losses import Carriers
from tangentscope.pipeline.cluster.nodes import check_labels, refuse_labels
from tangentscope.pipeline.cluster.token import check_token
from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.system.signals import same_handlers


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
    starts_here = address is None and ahead.begun()
    if ray.is_initialized() and not starts_here:
        raise UserError("this process is connected to a Ray already, and one is all it can have; call ray.shutdown()")
    if address is None:
        for resources, _ in studies:
            refuse_labels(resources)
    else:
        check_token()
    with same_handlers():  # Ray sets handlers of its own when it connects
        disconnect = _connect(address, max(int(want["CPU"]) for want in wanted))
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
            disconnect()


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


def _connect(address: str | None, cpus: int) -> Callable[[], None]:
    """Connect this process to a Ray; what ends that, and with it a Ray of this machine's own."""
    if address is None:
        if (starting := ahead.take(cpus)) is not None:
            starting.wait()
            return starting.end
        own_ray.start(cpus)
        return own_ray.end
    try:
        ray.init(address=address, **own_ray.QUIET)
    except Exception as error:
        mend = "leave --address out to use this machine"
        raise UserError(f"no Ray cluster at {address}: {one_line(error)}; {mend}") from None
    return ray.shutdown
