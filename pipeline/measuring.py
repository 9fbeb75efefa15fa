"""Measuring one snapshot: from its file to rows. No Ray here: an actor calls it, a test and a notebook can too."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.layout import SnapshotName
from pipeline.ledger import Job
from pipeline.plan import restore
from pipeline.points import read_points
from pipeline.snapshots import read_snapshot
from pipeline.storage import Storage
from pipeline.training import peak_memory
from probes import VARIABLES, Measurement, measure


@dataclass
class Measurer:
    """Measures snapshots of one study; keeps the last run's network and the points it has read.

    Args:
        storage: The study's.
        plan: The content of ``plan.json``.
        device: Where kernels are computed.
    """

    storage: Storage
    plan: Mapping[str, Any]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _module: tuple[str, nn.Module] | None = None
    _points: dict[str, Tensor] = field(default_factory=dict)

    def measure(self, job: Job) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of the tables ``measurements`` and ``spectra`` for all that the job wants."""
        run = next(run for run in self.plan["runs"] if run["run"] == job.run)
        module, metadata = self.load(run, job.name)
        probes = {probe["probe"]: probe for probe in self.plan["probes"]}
        rows, spectra = [], []
        for probe_id, variables in job.wanted.items():
            probe = probes[probe_id]
            begun = time.perf_counter()
            result = measure(module, self._inputs(probe_id), probe["outputs"], variables)
            seconds = time.perf_counter() - begun
            about = {"run": job.run, "attempt": job.name.attempt, "step": job.name.step}
            about |= {"epoch": job.name.step / run["epoch_steps"], "checksum": job.name.checksum, "probe": probe_id}
            about |= {"split": probe["split"], "outputs": probe["outputs"]}
            rows += [
                about
                | _statistics(result, name)
                | {"draws": probe["draws"], "size": probe["size"], "probe_seconds": seconds}
                | self._when(float(metadata["taken_at"]))
                for name in variables
            ]
            spectra += [
                about | {"draw": draw, "eigenvalues": values.tolist()} for draw, values in enumerate(result.eigenvalues)
            ]
        return rows, spectra

    def load(self, run: Mapping[str, Any], name: SnapshotName) -> tuple[nn.Module, dict[str, str]]:
        """The network of a run with a snapshot's parameters and buffers, and the snapshot's metadata."""
        state, metadata = read_snapshot(self.storage, run["run"], name)
        if self._module is None or self._module[0] != run["run"]:
            model = restore(run["config"])[1]
            module = model.build(tuple(run["data"]["input_shape"]), run["data"]["outputs"])
            self._module = run["run"], module.to(self.device).eval()
        module = self._module[1]
        module.load_state_dict(state)
        return module, metadata

    def _inputs(self, probe: str) -> Tensor:
        if probe not in self._points:
            self._points[probe] = read_points(self.storage, probe)["inputs"].to(self.device)
        return self._points[probe]

    def _when(self, taken_at: float) -> dict[str, Any]:
        now = time.time()
        return {"recorded_at": now, "lag_seconds": now - taken_at, "peak_memory": peak_memory()}


def _statistics(result: Measurement, name: str) -> dict[str, Any]:
    return {
        "variable": name,
        "version": VARIABLES[name].version,
        "value": result.mean(name),
        "stderr": result.stderr(name),
        "draw_values": result.values[name].tolist(),
        "clipped_mass": float(result.clipped_mass.mean()),
        "state": "measured",
        "cause": None,
    }
