"""Claims of Nam, chapters 1, 3 and 4: what linear, layered and multilinear models learn, and when."""

import math
from collections.abc import Sequence

import numpy as np

from tangentscope.pipeline.report.claims.claim import Claim, Needs
from tangentscope.pipeline.report.claims.findings import Finding, Sample
from tangentscope.pipeline.report.claims.readings import NoNumberError, Number, sample
from tangentscope.pipeline.report.figures.finite_size import finite_laws, finite_runs
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.scaling import laws
from tangentscope.pipeline.report.sine_fits import SineFit, sine_fits
from tangentscope.pipeline.report.solvable import SkillRun, SolvableRun, skill_runs, solvable_runs
from tangentscope.pipeline.report.view import View

_FLOW_ERROR = 1e-5  # snapshots are of single precision
_EXPONENT_ERROR = 0.03
_HALF = 0.5
_SHARE_ERROR = 0.1
_LEVEL = 0.05  # ε of Nam fig. 3.4


def closed_forms(view: View) -> list[Finding]:
    """Simulation = closed form: flow to rounding, descent to first order in its rate (Nam ch. 3, 4)."""
    found = []
    for run in solvable_runs(view):
        if run.optimiser.name == "solution":
            continue
        flow = run.optimiser.name == "flow"
        found.append(
            Finding(
                f"{'Flow' if flow else 'Descent'} is where the closed form says ({run.run.name})",
                "largest error of a strength / S" + ("" if flow else " / (η · largest rate)"),
                [sample(run.run.name, lambda run=run, flow=flow: _error(run, flow))],
                "Snapshots keep seven digits, of which errors of flow may take two."
                if flow
                else "A step is at distance O(η · rate) from the flow: below 1 of these units.",
                at_most=_FLOW_ERROR if flow else 1.0,
                drawn=False,
            )
        )
    return found


def _error(run: SolvableRun, flow: bool) -> Number:
    steps, strengths = run.simulated
    closed = run.closed(steps * run.rate)
    if closed is None:
        raise NoNumberError("no closed form from its first snapshot")
    if len(steps) < 2:
        raise NoNumberError("fewer than two snapshots are kept")
    scale = float(np.abs(run.scales).max())
    error = float(np.abs(closed - strengths).max()) / scale
    rate = run.rate * _fastest(run)
    return (error if flow else error / rate), f"{error:.2g} of S over {len(steps)} snapshots; η · rate = {told(rate)}"


def _fastest(run: SolvableRun) -> float:
    """Largest rate of a mode, 2 S_i E[x_i²] with layers and E[x_i²] without."""
    layered = 2 * np.abs(run.scales).max() if run.model.name != "linear" else 1.0
    return float(layered * np.max(run.moments))


def stage_like(view: View) -> list[Finding]:
    """Nam §3.4: diagonal nets learn mode after mode, linear models all modes at once."""
    found = []
    for run in solvable_runs(view):
        if run.model.name not in ("linear", "diagonal_linear") or len(run.scales) < 2:
            continue
        layered = run.model.name == "diagonal_linear"
        found.append(
            Finding(
                f"Modes are learned {'one after another' if layered else 'all at once'} ({run.run.name})",
                f"strength of the next mode as one reaches {1 - _LEVEL:g} S, "
                + ("largest over modes" if layered else "least over modes"),
                [sample(run.run.name, lambda run=run, layered=layered: _next_mode(run, layered))],
                f"ε = {_LEVEL:g}, as in fig. 3.4.",
                above=-math.inf if layered else _LEVEL,
                at_most=_LEVEL if layered else math.inf,
                drawn=False,
            )
        )
    return found


def _next_mode(run: SolvableRun, layered: bool) -> Number:
    _, strengths = run.simulated
    # Sigmoidal modes are straight lines in the logit, exponential ones in the logarithm of what is left.
    share = np.clip(strengths / run.scales, 1e-12, 1 - 1e-12)
    lines = np.log(share / (1 - share)) if layered else -np.log1p(-share)
    level = float(np.log(1 / _LEVEL - 1) if layered else -np.log(_LEVEL))
    nexts = []
    for mode in range(share.shape[1] - 1):
        if len(reached := np.flatnonzero(lines[:, mode] >= level)) and reached[0] > 0:
            span = slice(int(reached[0]) - 1, int(reached[0]) + 1)
            after = float(np.interp(level, lines[span, mode], lines[span, mode + 1]))
            nexts.append(float(1 / (1 + np.exp(-after)) if layered else -np.expm1(-after)))
    if not nexts:
        raise NoNumberError("no mode is learned")
    return (max(nexts) if layered else min(nexts)), f"next modes at {', '.join(f'{each:.3f}' for each in nexts)}"


def scaling_exponents(view: View) -> list[Finding]:
    """Nam Table 4.1: fitted slopes over a middle decade."""
    by_bottleneck: dict[str, list[Sample]] = {}
    found = laws(skill_runs(view))
    for law in found:
        slope = law.slope()
        name = law.bottleneck if law.drawn is None else f"data_seed={law.drawn}"
        low, high = law.decade
        note = f"slope {slope:.4f} over {told(low)} … {told(high)}" if slope is not None else "too few points"
        one = Sample(name, None if slope is None else slope - law.exponent, note)
        by_bottleneck.setdefault(law.bottleneck, []).append(one)
    exponents = {law.bottleneck: law.exponent for law in found}
    return [
        Finding(
            f"The loss falls with {name} by the power {exponents[name]:.3f}",
            "fitted slope of ln L, less the power of Table 4.1",
            samples,
            "Powers hold of endless skills and small starts; sums over skills are within 0.03 of them in the middle.",
            above=-_EXPONENT_ERROR,
            at_most=_EXPONENT_ERROR,
            drawn=name == "data",
        )
        for name, samples in by_bottleneck.items()
    ]


def learning_curves(view: View) -> list[Finding]:
    """Nam fig. 4.2: losses of simulated skill models are those of the closed form."""
    return [
        Finding(
            f"The loss of {run.skills:,} skills is that of the closed form ({run.optimiser.name})",
            "largest |ln L − ln L of the closed form| over time / (η · largest rate)",
            [sample(run.run.name, lambda run=run: _apart(run))],
            "A step is at distance O(η · rate) from the flow: below 1 of these units.",
            at_most=1.0,
            drawn=False,
        )
        for run in skill_runs(view)
        if run.optimiser.name != "solution"
    ]


def _apart(run: SkillRun) -> Number:
    times, losses = run.loss()
    closed = run.closed_loss(times)
    if closed is None or not len(times):
        raise NoNumberError("no losses, or no closed form from its first snapshot")
    apart, rate = np.abs(np.log(losses / closed)), run.rate * _fastest(run)
    place, largest = told(float(times[apart.argmax()])), float(apart.max())
    return largest / rate, f"{largest:.2g} at T = {place} of {len(times)} times; η · rate = {told(rate)}"


def finite_number(view: View) -> list[Finding]:
    """Nam app. C.1: of finitely many skills the corrected law is the better one."""
    found = []
    for run, law in finite_runs(view):
        pure, corrected = (float(np.sqrt(np.mean(np.log(each / law.losses) ** 2))) for each in finite_laws(run, law))
        note = f"{told(corrected)} corrected, {told(pure)} pure, over {len(law.amounts)} times"
        found.append(
            Finding(
                f"The law corrected for finite N is nearer than the pure one (α = {run.task.alpha:g})",
                "ln of the ratio of their RMS errors in ln L",
                [Sample(run.run.name, float(np.log(corrected / pure)), note)],
                "At least twice as near: below −ln 2.",
                at_most=-float(np.log(2)),
                drawn=False,
            )
        )
    return found


def frequency_bias(view: View) -> list[Finding]:
    """Nam fig. 1.2: intensities decide which of the functions that fit is learned."""
    found, every = [], [fit for fit in sine_fits(view) if fit.task.intensities == "power"]
    for exponent in sorted({fit.task.exponent for fit in every}):
        ours = [fit for fit in every if fit.task.exponent == exponent]
        low = exponent < 0
        found.append(
            Finding(
                f"Of features of intensity k^{2 * exponent:g} the {'low' if low else 'high'} frequencies are used",
                f"share of E[f²] in the {'lowest' if low else 'highest'} n frequencies",
                [Sample(f"data_seed={fit.task.data_seed}", _share(fit, low), fit.run.name) for fit in ours],
                "More than half, as the figure shows it.",
                above=_HALF,
            )
        )
    return found


def _share(fit: SineFit, low: bool) -> float:
    n = min(fit.task.train_size, fit.task.features)
    chosen = slice(None, n) if low else slice(fit.task.features - n, None)
    return float(fit.power[chosen].sum() / fit.power.sum())


def overfitting(view: View) -> list[Finding]:
    """Nam §1.6: an overfit is benign where the target is among the leading features, else malignant."""
    kinds: dict[bool, list[Sample]] = {}
    for fit in sine_fits(view):
        task = fit.task
        if task.intensities == "plateau" and not task.random_labels:
            # E[(f − f*)²] over x uniform, exactly: sines are orthogonal.
            wanted = np.zeros(task.features)
            wanted[task.frequency - 1] = 1 / np.sqrt(2 * task.intensity()[task.frequency - 1])
            error = float(((fit.weights - wanted) ** 2 * task.intensity()).sum())
            benign = task.frequency <= task.leading
            kinds.setdefault(benign, []).append(Sample(f"data_seed={task.data_seed}", 1 - 2 * error, fit.run.name))
    return [
        Finding(
            "Noise is overfitted benignly: the target is a leading feature"
            if benign
            else "Noise is overfitted malignantly: the target is none of the leading features",
            "R² over all of [0, 1]",
            samples,
            "More of the target than of anything else is learned, or less: one half.",
            above=_HALF if benign else -math.inf,
            at_most=math.inf if benign else _HALF,
        )
        for benign, samples in sorted(kinds.items(), reverse=True)
    ]


def learnability(view: View) -> list[Finding]:
    """Nam eq. 1.35: the share of a leading feature that is learned is ρ/(ρ + κ), not about 1 as eq. 1.36 has it."""
    samples = [
        Sample(
            f"data_seed={fit.task.data_seed}",
            fit.learned - share,
            f"learned {fit.learned:.3f}, ρ/(ρ + κ) = {share:.3f}, eq. 1.36 has 1",
        )
        for fit in sine_fits(view)
        if fit.task.intensities == "plateau"
        and fit.task.frequency <= fit.task.leading
        and (share := fit.learnability) is not None
    ]
    finding = Finding(
        "The target is learned to the share ρ/(ρ + κ), with κ solved for",
        "⟨f|f*⟩/⟨f*|f*⟩ less ρ/(ρ + κ)",
        samples,
        "Far nearer than the 0.49 by which eq. 1.36 is off.",
        above=-_SHARE_ERROR,
        at_most=_SHARE_ERROR,
    )
    return [finding] if samples else []


def noise_sharpens(view: View) -> list[Finding]:
    """Nam fig. 1.4: the more equal features, the sharper a fit of random labels."""
    draws: dict[int, dict[int, SineFit]] = {}
    for fit in sine_fits(view):
        if fit.task.intensities == "equal" and fit.task.random_labels:
            draws.setdefault(fit.task.data_seed, {})[fit.task.features] = fit
    samples = []
    for seed, fits in sorted(draws.items()):
        powers = {p: float(fits[p].power.sum()) for p in sorted(fits)}
        if len(powers) > 1:
            first, *_, last = powers.values()
            note = ", ".join(f"E[f²] = {told(power)} at p = {p}" for p, power in powers.items())
            samples.append(Sample(f"data_seed={seed}", float(np.log(first / last)), note))
    return _found(
        samples,
        "The fit of noise sharpens as features are added",
        "ln of E[f²] with fewest features over that with most",
        "Points are fitted either way, so that E[f²] is the width of what is fitted about them: at least half as wide.",
    )


def _found(samples: Sequence[Sample], statement: str, statistic: str, reason: str) -> list[Finding]:
    return [Finding(statement, statistic, samples, reason, above=float(np.log(2)))] if samples else []


_NONE = Needs()
CLAIMS: dict[str, Claim] = {
    "frequency_bias": Claim(frequency_bias, "Nam §1.6, fig. 1.2", "fits", _NONE),
    "overfitting": Claim(overfitting, "Nam §1.6, fig. 1.3, 1.5", "fits", _NONE),
    "learnability": Claim(learnability, "Nam eq. 1.35", "fits", _NONE),
    "noise_sharpens": Claim(noise_sharpens, "Nam §1.6, fig. 1.4", "fits", _NONE),
    "closed_forms": Claim(closed_forms, "Nam ch. 3–4", "mode_strengths", _NONE),
    "stage_like": Claim(stage_like, "Nam §3.4, fig. 3.3–3.4", "mode_strengths", _NONE),
    "scaling_exponents": Claim(scaling_exponents, "Nam Table 4.1", "scaling_laws", _NONE),
    "learning_curves": Claim(learning_curves, "Nam fig. 4.2", "scaling_laws", _NONE),
    "finite_number": Claim(finite_number, "Nam app. C.1, fig. C.1", "finite_size", _NONE),
}
