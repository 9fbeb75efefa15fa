"""The Ray that an attached training uses: the one its process is connected to, or one that is begun for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import ray

from tangentscope.pipeline.cluster.connection import check_seen, connected
from tangentscope.pipeline.cluster.nodes import check_labels
from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.system.errors import UserError

_ROOM_SECONDS = 60.0  # to wait for room in a Ray that was there: maybe this very worker holds what is waited for

_lock = threading.Lock()
_begun: list[ExitStack] = []  # the connection that was begun here, while anybody uses it
_users = 0


@contextmanager
def joined(address: str | None, pools: Resources, storage: Storage) -> Iterator[bool]:
    """A connection to Ray; True if there was one before, which then stays.

    Raises:
        UserError: As `tangentscope.pipeline.cluster.connection.connected`.
    """
    global _users
    with _lock:
        was_there = ray.is_initialized() and not _begun
        if was_there or _begun:
            alive = [node for node in ray.nodes() if node["Alive"]]
            check_seen(storage, {node["NodeManagerHostname"] for node in alive}, pools.shared)
            check_labels(pools, [node["Labels"] for node in alive])
        else:
            stack = ExitStack()
            stack.enter_context(connected(address, [(pools, storage)]))
            _begun.append(stack)
        _users += not was_there
    try:
        yield was_there
    finally:
        with _lock:
            _users -= not was_there
            if _begun and not _users:
                _begun.pop().close()


def patient(pools: Resources, was_there: bool, tell: Callable[[str], None]) -> Callable[[HubStatus], None]:
    """What to do while there is no room for probers: say so, and in a Ray that was there give up after a minute."""
    begun = time.monotonic()

    def wait(status: HubStatus) -> None:
        share = ", ".join(f"{amount:g} {name}" for name, amount in pools.probe.share.items() if amount)
        wanted = f"{pools.probe.actors} prober(s) of {share}"
        waited = time.monotonic() - begun
        if was_there and waited > _ROOM_SECONDS:
            raise UserError(
                f"the Ray that this process is connected to has had no room for {wanted} in {waited:.0f} s; leave "
                "CPUs free for them, e.g. with one worker less or a larger num_cpus"
            )
        if waited > 5.0:
            tell(f"waiting for room for {wanted} in the Ray cluster")

    return wait
