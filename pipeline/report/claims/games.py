"""What CV says of fig. 3c: kernels jump just before a game's return begins to rise, the actor's trace the most."""

import math

import numpy as np
import pandas as pd

from tangentscope.pipeline.report.claims.claim import Claim, Needs
from tangentscope.pipeline.report.claims.findings import Finding, Sample
from tangentscope.pipeline.report.formatting import counted, number
from tangentscope.pipeline.report.games import (
    ACTOR,
    CRITIC,
    Beginning,
    beginning,
    kernel_curve,
    leading_kernel,
    part_kernel,
    returns,
)
from tangentscope.pipeline.report.summaries import state
from tangentscope.pipeline.report.view import EPISODES, Kernel, View, column, where
from tangentscope.pipeline.store.planned import PlannedRun


def entropy_before_return(view: View) -> list[Finding]:
    """CV §4: entropy and trace increase "in the episode before the reward of the agent follows suit".

    A seed's number is the iteration at which its return begins to rise less that at which the entropy of its actor's
    kernel does. Both are known by the iteration at best: that is the claim's unit, and only what was measured more
    coarsely widens the interval. A return tells of the parameters that its game was played by, which are those of
    several iterations where games are played side by side: how many, each seed's note says.
    """
    kernel = leading_kernel(view, "entropy")
    if kernel is None or not _plays(view):
        return []
    whose = kernel.part or "all outputs"
    return [
        Finding(
            statement=_of(f"Entropy ({whose}) begins to rise before the return, by one iteration at most", parts),
            statistic="Onset of the return − onset of the entropy, iterations",
            samples=[_distance(view, run, kernel) for run in runs],
            reason="The paper says the episode before. Parameters change once an iteration, so that is the finest "
            "there is: the mean has to be above 0 and at most 1.",
            above=0.0,
            at_most=1.0,
        )
        for parts, runs in view.networks.items()
    ]


def actor_jumps_most(view: View) -> list[Finding]:
    """CV §4: the trace "increases more significantly in the actor model".

    A seed's number is by how much ln Tr of the actor's kernel rises more than that of the critic's at the onset t of
    the return: its mean over iterations t to 2t less that over t/2 to t, which are as wide on a logarithmic axis.
    """
    kernels = {part: part_kernel(view, "trace", part) for part in (ACTOR, CRITIC)}
    if None in kernels.values() or not _plays(view):
        return []
    return [
        Finding(
            statement=_of("The actor's trace jumps by more than the critic's where the return begins to rise", parts),
            statistic="Jump of the actor's ln Tr − jump of the critic's",
            samples=[_jumps(view, run, kernels) for run in runs],
            reason="The paper says more, not how much more: the mean has to be above 0.",
            above=0.0,
        )
        for parts, runs in view.networks.items()
    ]


def _plays(view: View) -> bool:
    return EPISODES in set(view.history["variable"])


def _of(statement: str, parts: tuple[str, ...]) -> str:
    return f"{statement} ({', '.join(parts)})" if parts else statement


def _distance(view: View, run: PlannedRun, kernel: Kernel) -> Sample:
    if unfinished := _unfinished(view, run):
        return unfinished
    reward, entropy = beginning(returns(view, run)), beginning(kernel_curve(view, run, "entropy", kernel))
    told = f"return {_told(view, reward)}; entropy {_told(view, entropy)}"
    if reward is None or entropy is None:
        return Sample(run.name, None, told)
    told += f"; {counted(reward.x - entropy.x)} {view.x}s between{_lasting(view, run, reward.step)}"
    # Each may lie anywhere up to the point after; an iteration of that is in the claim.
    later = {"below": entropy.next_step - entropy.step - 1.0, "above": reward.next_step - reward.step - 1.0}
    return Sample(run.name, float(reward.step - entropy.step), told, **later)


def _told(view: View, found: Beginning | None) -> str:
    if found is None:
        return "has no onset"
    steps = f"iterations {number(found.step)} and {number(found.next_step)}"
    on_axis = "" if view.x == "step" else f" ({view.x}s {counted(found.x)} and {counted(found.next_x)})"
    return f"begins to rise between {steps}{on_axis}"


def _lasting(view: View, run: PlannedRun, until: int) -> str:
    """How many iterations a game lasted up to one of them: those under way at a time by those that ended in each."""
    ended = where(view.history_of[run.id], split="train", variable=EPISODES, step=until)
    side_by_side = run.config["train"].get("environments")
    if side_by_side is None or not until or not (count := column(ended, "value").sum()):
        return ""
    return f"; a game lasts {number(side_by_side * until / float(count), 2)} iterations"


def _jumps(view: View, run: PlannedRun, kernels: dict[str, Kernel | None]) -> Sample:
    if unfinished := _unfinished(view, run):
        return unfinished
    reward = beginning(returns(view, run))
    if reward is None:
        return Sample(run.name, None, f"return {_told(view, reward)}")
    jumps = {part: _jump(kernel_curve(view, run, "trace", kernel), reward.step) for part, kernel in kernels.items()}
    if not all(map(math.isfinite, jumps.values())):
        return Sample(run.name, None, f"no traces on both sides of iteration {number(reward.step)}")
    told = ", ".join(f"{part} {number(jump)}" for part, jump in jumps.items())
    return Sample(run.name, jumps[ACTOR] - jumps[CRITIC], f"at iteration {number(reward.step)}: {told}")


def _jump(curve: pd.DataFrame, at: int) -> float:
    """Mean over the octave after an iteration less that over the one before; NaN if either has no value."""
    return _mean(curve, at, 2 * at) - _mean(curve, at / 2, at)


def _mean(curve: pd.DataFrame, after: float, until: float) -> float:
    """Over the iterations between two, each by the values around it: where there are more they weigh no more."""
    step, value = column(curve, "step"), column(curve, "value")
    inside = np.isfinite(value) & (step > after) & (step <= until)
    if not inside.any():
        return math.nan
    grid = np.arange(step[inside].min(), step[inside].max() + 1)
    return float(np.interp(grid, step[inside], value[inside]).mean())


def _unfinished(view: View, run: PlannedRun) -> Sample | None:
    """A run that has not finished may yet begin to learn."""
    how = state(view, run.id)
    return None if how == "finished" else Sample(run.name, None, how)


CLAIMS: dict[str, Claim] = {
    "entropy_before_return": Claim(
        entropy_before_return, "CV §4.2, fig. 3c", "onset", Needs(variables=("entropy",), plays=True)
    ),
    "actor_jumps_most": Claim(actor_jumps_most, "CV §4.2, fig. 3c", "onset", Needs(variables=("trace",), plays=True)),
}
