"""A Ray of this machine's own: it listens on loopback alone, and starts without what nobody here asks for.

What Ray offers no option for is set where Ray itself looks, for the time of its start. A next version that looks
elsewhere fails `tests/ray/test_doors.py`, or starts as slowly as before.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import ray
from ray._private import parameter, ray_constants, services, utils

from tangentscope.pipeline.cluster.token import ensure_token
from tangentscope.pipeline.system.errors import Lost, one_line
from tangentscope.pipeline.system.signals import apart

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

_OBJECT_STORE_BYTES = 256 * 2**20  # nothing large goes through the object store: snapshots are files


def start(cpus: int) -> None:
    """Start one with at least so many CPUs, and connect this process to it.

    On fewer cores than that everything still runs, only in turns.

    Raises:
        Lost: It did not start, as on a machine that is too busy for it.
        UserError: Its token cannot be kept.
    """
    ensure_token()
    # An actor that looks out for nodes that are taken away: there is only this one, and it takes seconds to start.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    own = {"num_cpus": max(cpus, os.cpu_count() or 1), "object_store_memory": _OBJECT_STORE_BYTES}
    # A file left by an earlier cluster would make a bare init look for that one: hence "local".
    with apart(), _on_loopback(), _alone():
        try:
            ray.init(address="local", include_dashboard=False, **own, **QUIET)
        except Exception as error:  # whatever Ray raises where a process of it does not come up
            ray.shutdown()
            raise Lost(f"it did not start: {one_line(error)}; see its logs in /tmp/ray/session_latest/logs") from error


def end() -> None:
    """End it, and this process's connection to it."""
    ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that is started in this block has the loopback address as its node's, and listens nowhere else.

    So Ray starts where machines cannot form a cluster, on macOS and Windows. A loopback address that it is given it
    turns into that of a network: the one way is its own switch, which it reads from the environment once, when it is
    imported, also to connect to a cluster.
    """
    with patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def _alone() -> Iterator[None]:
    """Without what serves other machines and Ray's own commands, half of what a start costs.

    That is the autoscaler, what sends workers' output to a driver that has asked for none, and the dashboard: its
    server starts and is waited for even where no dashboard is wanted, and its agent loads and offers what the server
    asks for, unless Ray takes the dashboard's libraries to be absent.
    """
    spare = {"no_monitor": True, "include_log_monitor": False}
    with ExitStack() as stack:
        stack.enter_context(patch.object(parameter, "RayParams", partial(parameter.RayParams, **spare)))
        stack.enter_context(patch.object(services, "start_api_server", lambda *_, **__: ("", None)))
        stack.enter_context(patch.object(utils, "get_dashboard_dependency_error", lambda: "left out"))
        yield
