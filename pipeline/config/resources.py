"""Machines' shares of a study, as its file asks for them. They are no part of any run's identity."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Pool(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Count = Annotated[int, Field(ge=1, le=10_000)]  # of processes, or of CPUs for each
_VALUE = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
_KEY = r"^([a-z0-9.-]{1,253}/)?" + _VALUE
Labels = dict[Annotated[str, Field(pattern=_KEY)], Annotated[str, Field(pattern="^" + _VALUE)]]
"""Labels of Ray's nodes, as `ray start --labels=pool=train` gives them."""


class TrainPool(_Pool):
    """Who trains: `groups` worker groups at a time, each of `workers` workers, on nodes with all the `labels`.

    Games are played by `env_runners` processes beside each worker, with a CPU each; without any, in the worker itself.
    What is to be learned of them is shared out among `learners` processes, with a worker's CPUs and GPU each; without
    any, the worker itself learns.
    With `together`, seeds of a small network train in one pass where a trial is faster; numbers differ by rounding.
    """

    groups: _Count = 1
    workers: _Count = 1
    cpu: _Count = 1
    gpu: int = Field(default=0, ge=0, le=1)
    env_runners: int = Field(default=0, ge=0, le=10_000)
    learners: int = Field(default=0, ge=0, le=10_000)
    together: bool = True
    labels: Labels = {}
    checkpoint_seconds: float = Field(default=30.0, gt=0)

    @property
    def worker_gpu(self) -> int:
        """Of each worker itself: those that learn beside it have the GPUs."""
        return 0 if self.learners else self.gpu

    @property
    def worker_wants(self) -> dict[str, float]:
        """What a worker needs of the cluster, with those beside it."""
        return {
            "CPU": self.cpu * (1 + self.learners) + self.env_runners,
            "GPU": self.gpu * max(1, self.learners),
        }

    @property
    def wants(self) -> dict[str, float]:
        """What all workers need of the cluster, with those beside them."""
        return {name: self.groups * self.workers * amount for name, amount in self.worker_wants.items()}


class ProbePool(_Pool):
    """Who measures: `actors` probe actors, on nodes with all the `labels`.

    Where all has been trained and much is still to be measured, more of them take the workers' place, `successors` at
    most; by default as many as there is place for.
    A kernel computed in pieces, for `memory_bytes`, may round differently.
    """

    actors: _Count = 1
    cpu: _Count = 1
    gpu: float = Field(default=0, ge=0, le=1)
    successors: int | None = Field(default=None, ge=0, le=10_000)
    labels: Labels = {}
    memory_bytes: int = Field(default=2**30, ge=2**20)  # what a kernel may take

    @property
    def share(self) -> dict[str, float]:
        """What each actor needs of the cluster."""
        return {"CPU": self.cpu, "GPU": self.gpu}


class Resources(_Pool):
    """Machines' shares. No part of a run's identity. `shared`: all machines of the cluster see the output directory."""

    train: TrainPool = TrainPool()
    probe: ProbePool = ProbePool()
    shared: bool = False

    @property
    def wants(self) -> dict[str, float]:
        """What the study needs of the cluster."""
        return {name: amount + self.probe.actors * self.probe.share[name] for name, amount in self.train.wants.items()}

    @property
    def successors(self) -> int:
        """How many more actors may measure where workers have trained: none on nodes that labels set apart."""
        if self.train.labels != self.probe.labels:
            return 0
        places = min(self.train.wants[name] / amount for name, amount in self.probe.share.items() if amount)
        fitting = int(places + 1e-9)  # seven GPUs are a hundred times 0.07, whatever floats say
        return fitting if self.probe.successors is None else min(fitting, self.probe.successors)
