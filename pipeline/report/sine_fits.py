"""What figures and claims read of linear models of sines: their weights at the end, and the function these make."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.tasks import Sines


@dataclass(frozen=True)
class SineFit:
    """A run of a linear model of sines, f(x) = Σ_k w_k √(2ρ_k) sin(2πkx), at its last snapshot."""

    run: PlannedRun
    task: Sines
    weights: Float64[np.ndarray, " features"]

    @property
    def power(self) -> Float64[np.ndarray, " features"]:
        """w_k² ρ_k, the share of each sine in E[f²] for x uniform in [0, 1]."""
        return self.weights**2 * self.task.intensity()

    @property
    def learnability(self) -> float | None:
        """ρ/(ρ + κ) of the target's frequency, the share of it that is learned in the mean (Nam eq. 1.35)."""
        task = self.task
        if task.random_labels or task.frequency > task.features or task.train_size >= task.features:
            return None
        from tangentscope.probes.variables.features.learnability import learnability  # loads SciPy's root finder

        return float(learnability(task.intensity(), task.train_size)[task.frequency - 1])

    @property
    def learned(self) -> float:
        """⟨f|f*⟩/⟨f*|f*⟩ over x uniform in [0, 1], of a target that is one of the sines."""
        place = self.task.frequency - 1
        return float(self.weights[place] * np.sqrt(2 * self.task.intensity()[place]))

    def at(self, x: np.ndarray, features: slice = slice(None)) -> np.ndarray:
        """f(x), `[n]`, or the part of it that some of the features make."""
        return self.task.inputs_at(x)[:, features] @ self.weights[features]

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Places and targets of the points that were learned from."""
        return self.task.places(), self.task.load().train.targets[:, 0].double().numpy()


def sine_fits(view: View) -> list[SineFit]:
    """The runs of linear models of sines whose last snapshot is kept."""
    found = []
    for run in view.runs:
        if run.is_attached:
            continue
        task, model, _, _ = restore(run.config)
        kept = view.store.kept(run.id)
        if isinstance(task, Sines) and model.name == "linear" and kept and kept[-1].step == run.steps:
            (weights,) = (each for each in view.store.parameters(run.id, kept[-1]).values())
            found.append(SineFit(run, task, weights.to(torch.float64).numpy().ravel()))
    return found
