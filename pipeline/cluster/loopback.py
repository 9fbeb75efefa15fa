"""Torch's processes of a Ray of this machine's own find each other on loopback, and no other machine reaches them.

Ray's processes bind the address of their node, see :mod:`pipeline.cluster.own_ray`. Torch's rendezvous binds every
address whatever it is told, and gloo and NCCL that of the machine's name: workers get a backend that knows better.
"""

import os
import socket
import sys
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]  documented as being there

_ADDRESSES = ("127.0.0.1", "::1")


def alone() -> bool:
    """Whether the Ray that this process is connected to is one of this machine's own."""
    return ray.util.get_node_ip_address() in _ADDRESSES


class _LoopbackBackend(_TorchBackend):
    """Ray's own, whose workers find each other on loopback."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(stay_on_loopback)
        super().on_start(worker_group, backend_config)


class _BackendOfLearners(_LoopbackBackend):
    share_cuda_visible_devices = False  # as RLlib has it: learners use no GPU but their own


@dataclass
class LoopbackConfig(TorchConfig):
    """Ray's own, for workers on this machine alone."""

    learners: bool = False  # of RLlib

    @property
    def backend_cls(self) -> type[_TorchBackend]:  # noqa: D102  Ray's name for it
        return _BackendOfLearners if self.learners else _LoopbackBackend


def stay_on_loopback() -> None:
    """From now on what torch opens in this process to talk to other workers is on loopback."""
    interface = _interface()
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", interface)
    rendezvous: Any = sys.modules["torch.distributed.rendezvous"]  # a function of this name hides the module
    rendezvous.TCPStore = _store  # by this name alone it makes stores


def _interface() -> str:
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address in _ADDRESSES for each in addresses):
            return name
    return "lo"


def _store(host_name: str, port: int, *, is_master: bool, **options: Any) -> TCPStore:
    """A store at this address; the one who keeps it is given a socket that listens there and nowhere else."""
    if is_master:
        family = socket.AF_INET6 if ":" in host_name else socket.AF_INET
        listening = socket.create_server((host_name, port), family=family)
        options["master_listen_fd"] = listening.detach()  # the store closes it
    return TCPStore(host_name, port, is_master=is_master, **options)
