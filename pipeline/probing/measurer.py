"""Measuring one snapshot: from its file to rows. No Ray here: an actor calls it, a test and a notebook can too."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tangentscope.pipeline.config.features import MEASURED
from tangentscope.pipeline.probing.features import measure_features
from tangentscope.pipeline.probing.ledger import Job, compared_with
from tangentscope.pipeline.probing.networks import Planned, Subject
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.planned import PlannedProbe, PlannedRun
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.store.rows import KernelAt, Row, measurement_row, profile_row, spectrum_row
from tangentscope.pipeline.store.snapshots import FROZEN, load_state, plain_state, read_snapshot, shapes_of
from tangentscope.pipeline.store.tables import Rows
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.system.memory import peak_memory
from tangentscope.probes import Measurement, measure

_OF_THE_MACHINE = (MemoryError, torch.OutOfMemoryError)  # failures after which another try may do


@dataclass
class Measurer:
    """Measures snapshots of one study; keeps the last run's networks and the points it has read.

    Args:
        storage: The study's.
        plan: Its plan.
        device: Where kernels are computed.
        memory_bytes: What a kernel may take. A number, not a share of what is free, so that measurements repeat
            bitwise.
        subject: Where networks and losses come from.
    """

    storage: Storage
    plan: Plan
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    memory_bytes: int = 2**30
    subject: Subject = field(default_factory=Planned)
    _run: str | None = None
    _networks: dict[str, nn.Module] = field(default_factory=dict)  # of that run, by role: present, initial, previous
    _loaded: dict[str, SnapshotName] = field(default_factory=dict)
    _points: dict[str, tuple[Any, dict[str, Tensor]]] = field(default_factory=dict)  # inputs, and all as stored

    def measure(self, job: Job) -> Rows:
        """Rows of the tables ``measurements``, ``spectra`` and ``profiles`` for all that the job wants.

        What cannot be measured has rows that say so, if anything else can be.
        """
        run = self.plan.run_of[job.run]
        module, metadata = self.load(run, job.name)
        earlier = {way: self._earlier(run, name, way) for way, name in job.earlier.items()}
        rows: Rows = {"measurements": [], "spectra": [], "profiles": []}
        causes: dict[str, Exception] = {}
        for probe in job.wanted:
            try:
                of_probe = self._of_probe(run, job, probe, module, earlier, float(metadata["taken_at"]))
            except _OF_THE_MACHINE:
                raise
            except Exception as error:
                causes[probe] = error
                continue
            for table, found in of_probe.items():
                rows[table].extend(found)
        if len(causes) == len(job.wanted):
            raise next(iter(causes.values()))
        for probe, error in causes.items():
            failures = {name: _failure(name, one_line(error)) for name in job.wanted[probe]}
            spent = self._spent(float(metadata["taken_at"]), 0.0)
            rows["measurements"] += _measurements(run, job, self.plan.every_probe[probe], failures, spent)
        return rows

    def _of_probe(
        self,
        run: PlannedRun,
        job: Job,
        probe_id: str,
        module: nn.Module,
        earlier: Mapping[str, nn.Module],
        taken_at: float,
    ) -> Rows:
        variables, probe = job.wanted[probe_id], self.plan.every_probe[probe_id]
        self._read_points(probe_id)
        begun = time.perf_counter()
        how = self._measures_features if probe.is_of_features else self._measures_kernels
        result, refused = _measured(how(run, job, probe, module, earlier), variables)
        spent = self._spent(taken_at, time.perf_counter() - begun)
        statistics = {
            name: (_failure(name, refused[name]) if name in refused else _statistics(result, name))
            | {"compared_with": compared_with(self.plan.compares.get(name, ()), job.earlier)}
            for name in variables
        }
        at = _at(run, job, probe)
        return {
            "measurements": _measurements(run, job, probe, statistics, spent),
            "spectra": [
                spectrum_row(at, draw, values.tolist()) for draw, values in enumerate(result.eigenvalues) if values.size
            ],
            "profiles": [
                profile_row(at, draw, name, MEASURED[name].version, values.tolist(), spent["recorded_at"])
                for name, profile in result.profiles.items()
                if name not in result.reasons
                for draw, values in enumerate(profile)
            ],
        }

    def _measures_kernels(
        self, run: PlannedRun, job: Job, probe: PlannedProbe, module: nn.Module, earlier: Mapping[str, nn.Module]
    ) -> Callable[..., Measurement]:
        inputs, points = self._read_points(probe.id)
        return partial(
            measure,
            self.subject.observed(run, module, probe.part),
            inputs,
            points["draws"],
            probe.outputs,
            targets=points.get("targets"),
            loss=self.subject.loss(run),
            **{role: self.subject.observed(run, network, probe.part) for role, network in earlier.items()},
            step=job.name.step,
            previous_step=job.earlier["previous"].step if "previous" in earlier else None,
            output=self.subject.output,
            parameters=self.subject.parameters,
            memory_bytes=self.memory_bytes,
        )

    def _measures_features(
        self, run: PlannedRun, job: Job, probe: PlannedProbe, module: nn.Module, earlier: Mapping[str, nn.Module]
    ) -> Callable[..., Measurement]:
        return partial(
            measure_features,
            self.subject.observed(run, module),
            self._read_points(probe.id)[1],
            self.subject.inputs,
            self.subject.output,
            self.memory_bytes,
        )

    def load(self, run: PlannedRun, name: SnapshotName, role: str = "present") -> tuple[nn.Module, dict[str, str]]:
        """The network of a run with a snapshot's parameters and buffers, and the snapshot's metadata.

        Each role has a network of its own, which the next call for it changes.
        """
        state, metadata = read_snapshot(self.storage, run.id, name)
        if self._run != run.id:
            self._run, self._networks, self._loaded = run.id, {}, {}
        if role not in self._networks:
            self._networks[role] = self.subject.network(run).to(self.device)
            for part in self._networks[role].modules():  # not by eval(), in which layers may merge their weights
                part.training = False
        module = self._networks[role]
        _fill(module, state, run_files.snapshot(run.id, name))
        _freeze(module, metadata.get(FROZEN))
        self._loaded[role] = name
        return module, metadata

    def _earlier(self, run: PlannedRun, name: SnapshotName, role: str) -> nn.Module:
        # The initial network is that of every job of a run.
        return self._networks[role] if self._loaded.get(role) == name else self.load(run, name, role)[0]

    def _read_points(self, probe: str) -> tuple[Any, dict[str, Tensor]]:
        if probe not in self._points:
            read = read_points(self.storage, probe)
            points = {name: tensor.to(self.device) for name, tensor in read.items()}
            self._points[probe] = self.subject.inputs(points), points
        return self._points[probe]

    def _spent(self, taken_at: float, seconds: float) -> dict[str, Any]:
        """What a probe's measuring took, as columns."""
        now = time.time()
        lag = now - taken_at
        return {"recorded_at": now, "probe_seconds": seconds, "lag_seconds": lag, "peak_memory": peak_memory()}


def _at(run: PlannedRun, job: Job, probe: PlannedProbe) -> KernelAt:
    return KernelAt.of(run, probe, job.name.attempt, job.name.step, job.name.checksum)


def _measurements(
    run: PlannedRun, job: Job, probe: PlannedProbe, statistics: Mapping[str, dict[str, Any]], spent: dict[str, Any]
) -> list[Row]:
    """Rows of a probe's variables, whose own columns are in `statistics`."""
    at = _at(run, job, probe)
    return [
        measurement_row(at, draws=probe.draws, size=probe.size, **columns, **spent) for columns in statistics.values()
    ]


def _fill(module: nn.Module, state: Mapping[str, Tensor], file: str) -> None:
    """Load a state; UserError if it is another network's."""
    shapes, found = shapes_of(plain_state(module)), shapes_of(state)
    if differing := sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name)):
        first = differing[0]
        told = f"{first}: got {found.get(first, 'nothing')}, expected {shapes.get(first, 'nothing')}"
        raise UserError(
            f"{file}: a snapshot of another architecture ({len(differing)} tensors differ, e.g. {told}); remove it and "
            "run the study again"
        )
    load_state(module, state)


def _freeze(module: nn.Module, names: str | None) -> None:
    """Have the parameters need gradients that did when the snapshot was taken; files from before do not say."""
    if names is not None:
        frozen = {*json.loads(names)}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            parameter.requires_grad_(name not in frozen)


def _measured(measure_here: Callable[..., Measurement], variables: Sequence[str]) -> tuple[Measurement, dict[str, str]]:
    """A measurement of the variables that can be measured, and why the others cannot.

    Raises:
        Exception: None can.
    """
    try:
        return measure_here(variables=variables), {}
    except _OF_THE_MACHINE:
        raise
    except Exception:
        refused: dict[str, str] = {}
        for name in variables if len(variables) > 1 else ():
            try:
                measure_here(variables=[name])
            except _OF_THE_MACHINE:
                raise
            except Exception as cause:
                refused[name] = one_line(cause)
        if not refused or len(refused) == len(variables):
            raise
        return measure_here(variables=[name for name in variables if name not in refused]), refused


def _statistics(result: Measurement, name: str) -> dict[str, Any]:
    about = {"variable": name, "version": MEASURED[name].version, "state": "measured", "cause": None}
    about |= {"clipped_mass": float(result.clipped_mass.mean())}
    if name in result.reasons:
        return about | _failure(name, result.reasons[name])
    if name in result.profiles:
        nothing = {"value": None, "stderr": None, "draw_values": None}
        return about | nothing | {"length": result.profiles[name].shape[1]}
    numbers = {"value": result.mean(name), "stderr": result.stderr(name), "draw_values": result.values[name].tolist()}
    return about | numbers | {"length": None}


def _failure(name: str, cause: str) -> dict[str, Any]:
    nothing = {"value": float("nan"), "stderr": None, "draw_values": None, "length": None}
    return {"variable": name, "version": MEASURED[name].version, "state": "failed", "cause": cause, **nothing}
