"""The data points of a probe: drawn once by the driver, stored, and the same at every step of every run."""

import safetensors.torch
import torch
from torch import Tensor

from pipeline import layout
from pipeline.plan import Run
from pipeline.storage import Storage
from probes import draw_indices


def store_points(storage: Storage, runs: list[Run]) -> None:
    """Draw and publish the points of every probe that has none yet: ``inputs, targets, indices``, [draws, size, …]."""
    for run in runs:
        for probe in run.probes:
            if storage.exists(layout.points(probe.id)):
                continue
            split = getattr(run.data, probe.split)
            kernel = probe.kernel
            chosen = torch.as_tensor(draw_indices(len(split), kernel.draws, kernel.size, kernel.seed))
            inputs, targets = split.batch(chosen)
            tensors = {"inputs": inputs.contiguous(), "targets": targets.contiguous(), "indices": chosen.contiguous()}
            storage.write(layout.points(probe.id), safetensors.torch.save(tensors))


def read_points(storage: Storage, probe: str) -> dict[str, Tensor]:
    """The stored points of a probe: ``inputs`` [draws, size, …], ``targets`` [draws, size, …], ``indices``."""
    return safetensors.torch.load(storage.read(layout.points(probe)))
