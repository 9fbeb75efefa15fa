"""What figures and claims read of features: profiles of networks by step, and how they are labelled."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from tangentscope.pipeline.config.features import BOTH
from tangentscope.pipeline.report.view import Kernel, View, column
from tangentscope.pipeline.store.planned import PlannedRun


def ways(view: View, variable: str) -> list[Kernel]:
    """How features were taken of which a variable is measured, in the plan's order."""
    return view.kernels(variable, BOTH)


def steps(view: View, runs: Sequence[PlannedRun], variable: str, way: Kernel) -> list[int]:
    """The steps at which all of some runs have a profile, ascending."""
    frame = view.profile(runs, BOTH, variable, way)
    of_step: dict[int, set[str]] = {}
    for run, step in zip(frame["run"], frame["step"], strict=True):
        of_step.setdefault(int(step), set()).add(run)
    return sorted(step for step, there in of_step.items() if len(there) == len(runs))


def profile(
    view: View, runs: Sequence[PlannedRun], variable: str, way: Kernel, step: int
) -> Float64[np.ndarray, " features"] | None:
    """The mean over some runs at a step, of intensities the geometric one of ρ_k/ρ_1; None where none has it.

    A feature that is NaN in one run is NaN.
    """
    frame = view.profile(runs, BOTH, variable, way)
    rows = [np.asarray(values, dtype=float) for values in frame.loc[frame["step"] == step, "values"]]
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    if variable != "intensities":
        return np.mean(rows, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(np.mean([np.log(row / row[0]) for row in rows], axis=0))


def at(view: View, runs: Sequence[PlannedRun], variable: str, way: Kernel, step: int) -> float:
    """The mean over some runs of a number at a step; NaN where one has none."""
    found = [_at(view, run, variable, way, step) for run in runs]
    return float(np.mean(found)) if found else np.nan


def score(view: View, runs: Sequence[PlannedRun], step: int) -> float:
    """The mean test score at a step; NaN where a run has none."""
    found = []
    for run in runs:
        curve = view.curve(run, "test", "score", None)
        there = column(curve, "value")[column(curve, "step") == step]
        found.append(there[0] if there.size else np.nan)
    return float(np.mean(found)) if found else np.nan


def _at(view: View, run: PlannedRun, variable: str, way: Kernel, step: int) -> float:
    curve = view.curve(run, BOTH, variable, way)
    there = column(curve, "value")[column(curve, "step") == step]
    return float(there[0]) if there.size else np.nan


def classes(runs: Sequence[PlannedRun]) -> int:
    """Outputs of the networks of some runs, the most of any."""
    return max(run.data.outputs or 1 for run in runs)


def label(view: View, runs: Sequence[PlannedRun], name: str, way: Kernel, step: int) -> str:
    """A name with the test score in parentheses and κ in brackets, as the thesis has them, as far as they are known."""
    parts = [name]
    if np.isfinite(value := score(view, runs, step)):
        parts.append(f"({value:.3g})")
    if way in ways(view, "kappa_cka"):
        kappa = at(view, runs, "kappa_cka", way, step)
        parts += [f"[{kappa:.2g}]"] if np.isfinite(kappa) else []
    return " ".join(parts)
