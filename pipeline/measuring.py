"""Measuring one snapshot: from its file to rows. No Ray here: an actor calls it, a test and a notebook can too."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import layout
from pipeline.errors import UserError
from pipeline.layout import SnapshotName
from pipeline.ledger import Job, compared_with
from pipeline.points import inputs_of, read_points
from pipeline.snapshots import read_snapshot
from pipeline.storage import Storage
from pipeline.subjects import Planned, Subject
from pipeline.tables import Rows
from pipeline.training import peak_memory
from pipeline.wanted import kinds
from probes import VARIABLES, Measurement, measure


@dataclass
class Measurer:
    """Measures snapshots of one study; keeps the last run's networks and the points it has read.

    Args:
        storage: The study's.
        plan: The content of ``plan.json``.
        device: Where kernels are computed.
        memory_bytes: What a kernel may take. A number, not a share of what is free, so that measurements repeat
            bitwise.
        subject: Where networks and losses come from.
    """

    storage: Storage
    plan: Mapping[str, Any]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    memory_bytes: int = 2**30
    subject: Subject = field(default_factory=Planned)
    _run: str | None = None
    _networks: dict[str, nn.Module] = field(default_factory=dict)  # of that run, by role: present, initial, previous
    _loaded: dict[str, SnapshotName] = field(default_factory=dict)
    _points: dict[str, tuple[Any, dict[str, Tensor]]] = field(default_factory=dict)  # inputs, and all as stored

    def measure(self, job: Job) -> Rows:
        """Rows of the tables ``measurements``, ``spectra`` and ``profiles`` for all that the job wants."""
        run = next(run for run in self.plan["runs"] if run["run"] == job.run)
        probes = kinds(self.plan)
        loss = self.subject.loss(run)
        module, metadata = self.load(run, job.name)
        earlier = {way: self._earlier(run, name, way) for way, name in job.earlier.items()}
        rows: Rows = {"measurements": [], "spectra": [], "profiles": []}
        for probe_id, variables in job.wanted.items():
            probe, (inputs, points) = probes[probe_id], self._read_points(probe_id)
            part = probe.get("part")  # plans on storage that know of no parts have none
            begun = time.perf_counter()
            result = measure(
                self.subject.observed(run, module, part),
                inputs,
                points["draws"],
                probe["outputs"],
                variables,
                targets=points["targets"],
                loss=loss,
                **{role: self.subject.observed(run, network, part) for role, network in earlier.items()},
                step=job.name.step,
                previous_step=job.earlier["previous"].step if "previous" in earlier else None,
                memory_bytes=self.memory_bytes,
            )
            seconds = time.perf_counter() - begun
            about = {"run": job.run, "attempt": job.name.attempt, "step": job.name.step}
            about |= {"epoch": job.name.step / run["epoch_steps"], "checksum": job.name.checksum, "probe": probe_id}
            about |= {"split": probe["split"], "outputs": probe["outputs"], "part": part}
            when = self._when(float(metadata["taken_at"]))
            rows["measurements"] += [
                about
                | _statistics(result, name)
                | {"compared_with": compared_with(self.plan["compares"].get(name, ()), job.earlier)}
                | {"draws": probe["draws"], "size": probe["size"], "probe_seconds": seconds}
                | when
                for name in variables
            ]
            rows["spectra"] += [
                about | {"draw": draw, "eigenvalues": values.tolist()} for draw, values in enumerate(result.eigenvalues)
            ]
            rows["profiles"] += [
                about
                | {"draw": draw, "variable": name, "version": VARIABLES[name].version, "values": values.tolist()}
                | {"recorded_at": when["recorded_at"]}
                for name, profile in result.profiles.items()
                if name not in result.reasons
                for draw, values in enumerate(profile)
            ]
        return rows

    def load(
        self, run: Mapping[str, Any], name: SnapshotName, role: str = "present"
    ) -> tuple[nn.Module, dict[str, str]]:
        """The network of a run with a snapshot's parameters and buffers, and the snapshot's metadata.

        Each role has a network of its own, which the next call for it changes.
        """
        state, metadata = read_snapshot(self.storage, run["run"], name)
        if self._run != run["run"]:
            self._run, self._networks, self._loaded = run["run"], {}, {}
        if role not in self._networks:
            self._networks[role] = self.subject.network(run).to(self.device).eval()
        module = self._networks[role]
        _fill(module, state, layout.snapshot(run["run"], name))
        self._loaded[role] = name
        return module, metadata

    def _earlier(self, run: Mapping[str, Any], name: SnapshotName, role: str) -> nn.Module:
        # The initial network is that of every job of a run.
        return self._networks[role] if self._loaded.get(role) == name else self.load(run, name, role)[0]

    def _read_points(self, probe: str) -> tuple[Any, dict[str, Tensor]]:
        if probe not in self._points:
            read = read_points(self.storage, probe)
            points = {name: tensor.to(self.device) for name, tensor in read.items()}
            self._points[probe] = inputs_of(points), points
        return self._points[probe]

    def _when(self, taken_at: float) -> dict[str, Any]:
        now = time.time()
        return {"recorded_at": now, "lag_seconds": now - taken_at, "peak_memory": peak_memory()}


def _fill(module: nn.Module, state: Mapping[str, Tensor], file: str) -> None:
    """Load a state; UserError if it is another network's."""
    shapes, found = ({name: tuple(t.shape) for name, t in each.items()} for each in (module.state_dict(), state))
    if differing := sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name)):
        first = differing[0]
        told = f"{first}: got {found.get(first, 'nothing')}, expected {shapes.get(first, 'nothing')}"
        raise UserError(
            f"{file}: a snapshot of another architecture ({len(differing)} tensors differ, e.g. {told}); remove it and "
            "run the study again"
        )
    module.load_state_dict(state)


def _statistics(result: Measurement, name: str) -> dict[str, Any]:
    about = {"variable": name, "version": VARIABLES[name].version, "state": "measured", "cause": None}
    about |= {"clipped_mass": float(result.clipped_mass.mean())}
    if name in result.reasons:
        nothing = {"value": float("nan"), "stderr": None, "draw_values": None, "length": None}
        return about | {"state": "failed", "cause": result.reasons[name]} | nothing
    if name in result.profiles:
        nothing = {"value": None, "stderr": None, "draw_values": None}
        return about | nothing | {"length": result.profiles[name].shape[1]}
    numbers = {"value": result.mean(name), "stderr": result.stderr(name), "draw_values": result.values[name].tolist()}
    return about | numbers | {"length": None}
