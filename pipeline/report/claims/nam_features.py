"""What Nam says of the last hidden layer's features: as few as outputs where all layers learn (chapters 2, 3 and 6)."""

from collections.abc import Sequence

import numpy as np

from tangentscope.pipeline.report.claims.claim import Claim, Needs
from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import (
    Groups,
    NoNumberError,
    Number,
    Run,
    by_seed,
    each_run,
    measured,
    sample,
)
from tangentscope.pipeline.report.features import profile, ways
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View
from tangentscope.probes.variables.features.kappa_cka import MINIMUM_FEATURE

_NEAR = 0.15  # of D_eff/C from 1: the thesis' own networks are up to 12 % off (11.19 of 10)
_REGRESSION = 0.3  # of D_eff(ρ) from 2: a constant and one feature
_WHOLE = 0.95  # of a cumulative share that is to be all of it
_LEFT = 1.3  # effective dimension of what is a single feature; the thesis has 1.0 to 1.2
KAPPA = "Nam Def. 2: the minimum-feature regime is below κ = 0.1."


def mf_regime(view: View) -> list[Finding]:
    """Nam §2.4, Table 2.2: networks all of whose layers learn end with κ < 0.1 and D_eff(ρ) ≈ C, D_eff(Q̂) ≈ C."""
    groups = {parts: runs for parts, runs in view.networks.items() if _is_rich(runs)}
    found = regime(view, groups, "Features are minimal")
    many = {parts: runs for parts, runs in groups.items() if (runs[0].data.outputs or 1) > 1}
    for variable, symbol in (
        ("effective_dimension_intensity", "D_eff(ρ)"),
        ("effective_dimension_utilisation", "D_eff(Q̂)"),
    ):
        found += each_run(
            many,
            f"{symbol} is about the number of classes",
            f"|{symbol}/C − 1| at the end",
            "Within 15 %: the thesis' own networks are up to 12 % off.",
            lambda run, variable=variable: _off(view, run, variable, run.data.outputs or 1),
            at_most=_NEAR,
        )
    return found


def ef_of_fixed_features(view: View) -> list[Finding]:
    """Nam fig. 2.3: networks whose last layer alone learns use many more features."""
    groups = {parts: runs for parts, runs in view.networks.items() if _trainable(runs[0]) == "last"}
    return regime(view, groups, "Features are extended where they do not learn", extended=True)


def one_feature_regression(view: View) -> list[Finding]:
    """Nam fig. 3.6: scalar regression uses one feature beside the constant."""
    groups = {parts: runs for parts, runs in view.networks.items() if runs[0].data.outputs == 1 and _is_rich(runs)}
    return each_run(
        groups,
        "Regression uses one feature beside the constant",
        "|D_eff(ρ) − 2| at the end",
        "Two features, one of them constant, to within .3 of one.",
        lambda run: _apart(view, run, "effective_dimension_intensity", 2.0),
        at_most=_REGRESSION,
    )


def kappa_rich_lazy_linear(view: View) -> list[Finding]:
    """Nam fig. 6.3: κ of a network that learns features < of one with a small target < of one with fixed features."""
    kinds = {"rich": _rich, "lazy": _lazy, "linear": lambda runs: [r for r in runs if _trainable(r) == "last"]}
    pairs = [("lazy", "rich"), ("linear", "lazy")]
    return [
        Finding(
            f"κ of {more} training is above that of {less} training",
            f"κ({more}) − κ({less}) at the end, same seed",
            [
                sample(
                    f"seed={seed}", lambda runs=runs, m=more, n=less: _difference(view, kinds[m](runs), kinds[n](runs))
                )
                for seed, runs in by_seed(view.runs).items()
            ],
            "The thesis gives an order, no size: the mean has to be above 0.",
            above=0.0,
        )
        for more, less in pairs
    ]


def one_feature_of_the_step(view: View) -> list[Finding]:
    """Nam fig. 2.2, Table 2.1: a network that learns the step keeps a single useful, used and significant feature."""
    found: list[Finding] = []
    for variable, symbol in (
        ("effective_dimension_quality", "D_eff(Q*)"),
        ("effective_dimension_utilisation", "D_eff(Q̂)"),
        ("feature_effective_rank", "D_eff(ρ)"),
    ):
        found += each_run(
            view.networks,
            f"One feature is left, by {symbol}",
            f"{symbol} at the end",
            "A single feature has 1; the thesis' table ends at 1.0 to 1.2, 1.3 leaves it as much again.",
            lambda run, variable=variable: end(view, run, variable),
            at_most=_LEFT,
        )
    return found


def first_features_are_all(view: View) -> list[Finding]:
    """Nam fig. 2.4: Π̂(C) ≈ 1 and Π*(C) ≈ Π*(p)."""
    found: list[Finding] = []
    for variable, symbol in (("utilisation_cumulative", "Π̂"), ("quality_cumulative", "Π*")):
        found += each_run(
            {parts: runs for parts, runs in view.networks.items() if _is_rich(runs)},
            f"The first C features hold all of {symbol}",
            f"{symbol}(C)/{symbol}(p) at the end",
            "All but a twentieth.",
            lambda run, variable=variable: _share(view, run, variable),
            above=_WHOLE,
        )
    return found


def regime(view: View, groups: Groups, statement: str, extended: bool = False) -> list[Finding]:
    """κ at the end of each group's runs, which has to be in the minimum-feature regime, or outside of it."""
    return each_run(
        groups,
        statement,
        "κ at the end",
        KAPPA,
        lambda run: end(view, run, "kappa_cka"),
        above=MINIMUM_FEATURE if extended else -np.inf,
        at_most=np.inf if extended else MINIMUM_FEATURE,
    )


def end(view: View, run: Run, variable: str) -> Number:
    """A variable of features at the end of a run. Errors as for `readings.measured`."""
    values = measured(view, run, variable).values
    return float(values[-1]), f"{told(float(values[0]), 3)} → {told(float(values[-1]), 3)}"


def end_profile(view: View, run: Run, variable: str) -> np.ndarray:
    """A profile of features at the end of a run.

    Raises:
        NoNumberError: There is none.
    """
    way = next(iter(ways(view, variable)), None)
    found = None if way is None else profile(view, [run], variable, way, run.steps)
    if found is None:
        raise NoNumberError(f"{variable.replace('_', ' ')} has no values at the last step")
    return found


def _off(view: View, run: Run, variable: str, count: int) -> Number:
    value, note = end(view, run, variable)
    return abs(value / count - 1), f"{note}, C = {count}"


def _apart(view: View, run: Run, variable: str, expected: float) -> Number:
    value, note = end(view, run, variable)
    return abs(value - expected), note


def _share(view: View, run: Run, variable: str) -> Number:
    values, count = end_profile(view, run, variable), run.data.outputs or 1
    known = values[np.isfinite(values)]
    if len(known) < count or not known[-1] > 0:
        raise NoNumberError(f"{variable.replace('_', ' ')} is known of {len(known)} features, C = {count}")
    return float(known[count - 1] / known[-1]), f"{told(float(known[count - 1]), 3)} of {told(float(known[-1]), 3)}"


def _difference(view: View, more: Sequence[Run], less: Sequence[Run]) -> Number:
    if len(more) != 1 or len(less) != 1:
        raise NoNumberError(f"{len(more)} and {len(less)} runs of the two kinds, expected one of each")
    (one, _), (other, _) = end(view, more[0], "kappa_cka"), end(view, less[0], "kappa_cka")
    return one - other, f"{told(one, 3)} and {told(other, 3)}"


def _trainable(run: Run) -> str:
    return str(run.config["train"].get("trainable", "all"))


def _target_scale(run: Run) -> float:
    return float(run.config["task"].get("target_scale", 1.0))


def _is_rich(runs: Sequence[Run]) -> bool:
    """Whether all layers learn, at a target that is not scaled down."""
    return _trainable(runs[0]) == "all" and _target_scale(runs[0]) >= 1


def _rich(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if _is_rich([run])]


def _lazy(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if _trainable(run) == "all" and _target_scale(run) < 1]


_DIMENSIONS = ("kappa_cka", "effective_dimension_intensity", "effective_dimension_utilisation")
_STEP = ("effective_dimension_quality", "effective_dimension_utilisation", "feature_effective_rank")

CLAIMS: dict[str, Claim] = {
    "mf_regime": Claim(mf_regime, "Nam §2.4, Table 2.2", "feature_profiles", Needs(variables=_DIMENSIONS)),
    "ef_of_fixed_features": Claim(
        ef_of_fixed_features,
        "Nam fig. 2.3",
        "feature_profiles",
        Needs(variables=("kappa_cka",), values={"train.trainable": ("last",)}),
    ),
    "one_feature_regression": Claim(
        one_feature_regression, "Nam fig. 3.6", "feature_profiles", Needs(variables=("effective_dimension_intensity",))
    ),
    "kappa_rich_lazy_linear": Claim(
        kappa_rich_lazy_linear,
        "Nam fig. 6.3",
        "feature_profiles",
        Needs(variables=("kappa_cka",), values={"train.trainable": ("last",)}, any_of=("task.target_scale",)),
    ),
    "one_feature_of_the_step": Claim(
        one_feature_of_the_step, "Nam fig. 2.2, Table 2.1", "features_and_kernel", Needs(variables=_STEP)
    ),
    "first_features_are_all": Claim(
        first_features_are_all,
        "Nam fig. 2.4",
        "feature_profiles",
        Needs(variables=("utilisation_cumulative", "quality_cumulative")),
    ),
}
