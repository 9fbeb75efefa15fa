"""What figures and claims read of runs that have a closed form beside them: strengths and losses of both."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from tangentscope.models import ModelError
from tangentscope.models.solvable.base import Solvable
from tangentscope.pipeline.config.components import restore
from tangentscope.pipeline.config.optimisers import SGD, Optimiser
from tangentscope.pipeline.config.solvers import Flow, Solution
from tangentscope.pipeline.report.view import View, column
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.tasks import Skills, Task
from tangentscope.tasks.moments import HasMoments


@dataclass(frozen=True)
class SolvableRun:
    """A run whose model has a closed form on its task, and whose optimiser goes along time."""

    view: View
    run: PlannedRun
    model: Solvable
    task: Task
    optimiser: SGD | Flow | Solution

    @property
    def moments(self) -> Float64[np.ndarray, " inputs"]:
        """E[x_i²] of the points to learn from."""
        return self._task.moments()

    @property
    def target(self) -> np.ndarray:
        """S, as the model takes it."""
        return self._task.target()

    @cached_property
    def scales(self) -> Float64[np.ndarray, " modes"]:
        """What the strengths become: S of each mode."""
        target = self.target
        return target if target.ndim == 1 else np.linalg.svd(target, compute_uv=False)

    @property
    def rate(self) -> float:
        """Time of a step."""
        return self.optimiser.lr

    @cached_property
    def simulated(self) -> tuple[Int64[np.ndarray, " snapshots"], Float64[np.ndarray, "snapshots modes"]]:
        """Steps of the snapshots that are kept, and the strengths in them."""
        network, kept = self.view.store.network(self.run), self.view.store.kept(self.run.id)
        found = []
        for name in kept:
            network.load_state_dict(self.view.store.parameters(self.run.id, name))
            found.append(self.model.strengths(network, self.target).ravel())
        steps = np.array([name.step for name in kept], dtype=int)
        return steps, np.array(found).reshape(len(kept), -1)

    def closed(self, times: np.ndarray) -> Float64[np.ndarray, "times modes"] | None:
        """The closed form from the first snapshot on; None if that is not kept, or is a start that is not solved."""
        kept = self.view.store.kept(self.run.id)
        if not kept or kept[0].step != 0:
            return None
        network = self.view.store.network(self.run)
        network.load_state_dict(self.view.store.parameters(self.run.id, kept[0]))
        try:
            return self.model.solution(network, times, self.target, self.moments).reshape(len(times), -1)
        except (ModelError, ValueError):
            return None

    @property
    def _task(self) -> HasMoments:
        assert isinstance(self.task, HasMoments)
        return self.task


def solvable_runs(view: View) -> Iterator[SolvableRun]:
    """The runs of a study that have a closed form."""
    for run in view.runs:
        if run.is_attached:
            continue
        task, model, optimiser, _ = restore(run.config)
        if isinstance(model, Solvable) and isinstance(task, HasMoments) and task.exact_moments and _goes(optimiser):
            yield SolvableRun(view, run, model, task, optimiser)  # pyright: ignore[reportArgumentType]  as _goes says


def _goes(optimiser: Optimiser) -> bool:
    """Whether a step is a time: of descent without momentum, decay or schedule."""
    if isinstance(optimiser, SGD):
        plain = not optimiser.momentum and not optimiser.weight_decay
        return plain and optimiser.schedule.name == "constant" and not optimiser.schedule.warmup
    return isinstance(optimiser, Flow | Solution)


@dataclass(frozen=True)
class SkillRun(SolvableRun):
    """One that learns skills, a strength each."""

    task: Skills

    @property
    def skills(self) -> int:
        """N, how many the model has."""
        return getattr(self.model, "skills", None) or self.task.skills

    def loss(self) -> tuple[np.ndarray, np.ndarray]:
        """Times and losses on all data, `[rows]` each, after the start and as they were recorded."""
        curve = self.view.curve(self.run, "test", "loss", None)
        steps, losses = column(curve, "step"), column(curve, "value")
        known = (steps > 0) & np.isfinite(losses)
        return steps[known] * self.rate, losses[known]

    def closed_loss(self, times: np.ndarray) -> np.ndarray | None:
        """½ Σ_k P_k (R_k − S)² over all skills, of the closed form, `[times]`."""
        strengths = self.closed(times)
        if strengths is None:
            return None
        shares = self.task.shares()
        had = strengths.shape[1]
        missing = self.task.scale**2 * shares[had:].sum()
        return ((strengths - self.task.scale) ** 2 @ shares[:had] + missing) / 2


def skill_runs(view: View) -> list[SkillRun]:
    """The runs that learn skills."""
    return [
        SkillRun(each.view, each.run, each.model, each.task, each.optimiser)
        for each in solvable_runs(view)
        if isinstance(each.task, Skills)
    ]
