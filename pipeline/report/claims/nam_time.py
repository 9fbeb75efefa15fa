"""What Nam says of features over time and one by one (§7.4), and whether the tangent kernel's formation meets them."""

import numpy as np

from tangentscope.pipeline.report.claims.claim import Claim, Needs
from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.nam_features import KAPPA, end_profile, regime
from tangentscope.pipeline.report.claims.readings import (
    NoNumberError,
    Number,
    Run,
    each_run,
    entropy_margin,
    measured,
    spearman,
)
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View
from tangentscope.probes.variables.features.kappa_cka import MINIMUM_FEATURE

_ORDER = "A clear order, not a tendency: above .5, of 1 for networks in perfect order."
_CORRELATED = 0.5
_EARLY = 5.0  # epochs
_LEAVING = 0.02  # κ


def regime_in_time(view: View) -> list[Finding]:
    """Nam figs 7.4–7.6: ResNets reach the minimum-feature regime by epoch 5; dense nets leave it, but not on MNIST."""
    kinds = {parts: (runs[0].model, runs[0].task) for parts, runs in view.networks.items()}
    nets = {parts: runs for parts, runs in view.networks.items() if kinds[parts][0] == "resnet18"}
    dense = {parts: runs for parts, runs in view.networks.items() if kinds[parts][0] == "mlp"}
    easy = {parts: runs for parts, runs in dense.items() if kinds[parts][1] == "mnist"}
    return [
        *each_run(
            nets,
            "Features are minimal by epoch 5",
            "κ at the last step measured up to epoch 5",
            KAPPA,
            lambda run: _early(view, run),
            at_most=MINIMUM_FEATURE,
        ),
        *each_run(
            {parts: runs for parts, runs in dense.items() if parts not in easy},
            "A dense net leaves the regime that it came close to",
            "κ at the end − least κ",
            "The thesis gives a direction, no size: .02 is a fifth of the regime's border.",
            lambda run: _rebound(view, run),
            above=_LEAVING,
        ),
        *regime(view, easy, "Features stay minimal on MNIST"),
    ]


def strong_features_are_good(view: View) -> list[Finding]:
    """Nam fig. 7.7: features of higher intensity have a higher quality and are used more."""
    found: list[Finding] = []
    for variable, symbol in (("quality", "Q*"), ("utilisation", "Q̂")):
        found += each_run(
            view.networks,
            f"Stronger features have a higher {symbol}",
            f"Spearman(ρ_k, {symbol}_k) over k = 2 … 2 C at the end",
            _ORDER,
            lambda run, variable=variable: _correlated(view, run, variable),
            above=_CORRELATED,
        )
    return found


def formation_meets_minimum_features(view: View) -> list[Finding]:
    """Our own: does the tangent kernel's entropy turn, from compression to formation, as features become minimal?

    That is when κ falls below 0.1, or, apart from that, when the features that are significant are fewest.
    """
    reason = "Within a factor of two in steps: the mean has to be above 0."
    return [
        *each_run(
            view.networks,
            "Structure formation begins as features become minimal",
            "1 − |log₂(step of least S/first step with κ < 0.1)|",
            reason,
            lambda run: _turn_beside(view, run, _becomes_minimal(view, run), "κ < 0.1 from step"),
            above=0.0,
        ),
        *each_run(
            view.networks,
            "Structure formation begins as features are fewest",
            "1 − |log₂(step of least S/step of least D_eff(ρ))|",
            reason,
            lambda run: _turn_beside(view, run, _fewest(view, run), "least D_eff(ρ) at step"),
            above=0.0,
        ),
    ]


def _early(view: View, run: Run) -> Number:
    kappa = measured(view, run, "kappa_cka")
    place = int(np.flatnonzero(kappa.steps <= _EARLY * run.epoch_steps)[-1])
    if place == 0:
        raise NoNumberError(f"κ is not measured between the start and epoch {_EARLY:g}")
    return float(kappa.values[place]), f"at epoch {told(run.epoch(int(kappa.steps[place])), 3)}"


def _rebound(view: View, run: Run) -> Number:
    kappa = measured(view, run, "kappa_cka")
    least = int(np.argmin(kappa.values))
    note = f"least {told(float(kappa.values[least]), 3)} at epoch {told(run.epoch(int(kappa.steps[least])), 3)}"
    return float(kappa.values[-1] - kappa.values[least]), f"{note}, end {told(float(kappa.values[-1]), 3)}"


def _correlated(view: View, run: Run, variable: str) -> Number:
    strength, share = end_profile(view, run, "intensities"), end_profile(view, run, variable)
    shown = slice(1, 2 * (run.data.outputs or 1))  # the first is nearly constant
    strength, share = strength[shown], share[shown]
    known = np.isfinite(strength) & np.isfinite(share)
    if known.sum() < 3:
        raise NoNumberError(f"{variable} is known of {int(known.sum())} of these features")
    return spearman(list(strength[known]), list(share[known])), f"{int(known.sum())} features"


def _becomes_minimal(view: View, run: Run) -> int:
    kappa = measured(view, run, "kappa_cka")
    below = np.flatnonzero((kappa.values < MINIMUM_FEATURE) & (kappa.steps > 0))
    if not below.size:
        raise NoNumberError(f"κ never falls below 0.1, least {told(float(kappa.values.min()), 3)}")
    return int(kappa.steps[below[0]])


def _fewest(view: View, run: Run) -> int:
    dimension = measured(view, run, "effective_dimension_intensity")
    least = int(np.argmin(dimension.values))
    if least == 0:
        raise NoNumberError("D_eff(ρ) is least at the start")
    return int(dimension.steps[least])


def _turn_beside(view: View, run: Run, step: int, what: str) -> Number:
    entropy = measured(view, run, "entropy")
    least = int(np.argmin(entropy.values))
    if least == 0 or entropy.values[-1] - entropy.values[least] <= entropy_margin(entropy, least, -1):
        raise NoNumberError("the entropy does not fall and rise again")
    turn = int(entropy.steps[least])
    return 1 - abs(float(np.log2(turn / step))), f"least S at step {told(turn)}, {what} {told(step)}"


CLAIMS: dict[str, Claim] = {
    "regime_in_time": Claim(regime_in_time, "Nam figs 7.4–7.6", "first_features", Needs(variables=("kappa_cka",))),
    "strong_features_are_good": Claim(
        strong_features_are_good,
        "Nam fig. 7.7",
        "first_features",
        Needs(variables=("intensities", "quality", "utilisation")),
    ),
    "formation_meets_minimum_features": Claim(
        formation_meets_minimum_features,
        "our own",
        "features_and_kernel",
        Needs(variables=("kappa_cka", "effective_dimension_intensity", "entropy")),
    ),
}
