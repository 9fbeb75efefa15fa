"""What Nam says of how data, rates, decay and normalisation move the feature regime (§7.2–7.3)."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from tangentscope.pipeline.report.claims.claim import Claim, Needs, Varied
from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.nam_features import Groups, end, regime
from tangentscope.pipeline.report.claims.readings import (
    NoNumberError,
    Number,
    Run,
    each_group,
    loss,
    scans,
    spearman,
    values,
)
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View, column
from tangentscope.probes.trajectories.broken_line import broken_line
from tangentscope.probes.variables.features.kappa_cka import MINIMUM_FEATURE

_SIZE, _DECAY, _RATE, _NORM = "task.train_size", "optimiser.weight_decay", "optimiser.lr", "model.batch_norm"
_ORDER = "A clear order, not a tendency: above .5, of 1 for networks in perfect order."
_SIGN = "The thesis gives a direction, no size: the mean has to be above 0."
_CLEAR = 0.5
_OCTAVE = 1.0
_FEWEST = 5  # sizes of a broken power law: two on each side and the break


def two_power_laws(view: View) -> list[Finding]:
    """Nam fig. 7.1a: the test loss falls as a faster power law beyond a number of data near which κ passes 0.1."""
    groups = scans(view, _SIZE, least=_FEWEST)
    return [
        *each_group(
            groups,
            "More data lower the loss faster beyond a knee",
            "Slope of ln L on ln n before the knee − after",
            _SIGN,
            lambda runs: _steepening(view, runs),
        ),
        *each_group(
            groups,
            "The knee is near κ = 0.1",
            "1 − |log₂(n at the knee/n at κ = 0.1)|",
            "Within a factor of two, the grid's own: the mean has to be above 0.",
            lambda runs: _knee_near(view, runs),
        ),
    ]


def weight_decay_tightens(view: View) -> list[Finding]:
    """Nam fig. 7.2b: more weight decay, a smaller κ and a better score; without any, the regime is minimal still."""
    groups = scans(view, _DECAY, least=3)
    without = {parts: [run for run in runs if run.varied[_DECAY] == 0] for parts, runs in groups.items()}
    return [
        *_ranked(groups, "More weight decay, a smaller κ", "Spearman(weight decay, −κ)", lambda r: -_kappa(view, r)),
        *_ranked(
            groups, f"More weight decay, a better {view.score}", f"Spearman(weight decay, {view.score})",
            lambda r: _score(view, r),
        ),
        *regime(
            view,
            {parts: runs for parts, runs in without.items() if runs},
            "Features are minimal without weight decay",
        ),
    ]  # fmt: skip


def learning_rate_regimes(view: View) -> list[Finding]:
    """Nam fig. 7.2a: the least rate ends extended and worse than the others; a middle one is the best."""
    groups = scans(view, _RATE, least=3)
    least = {parts: [r for r in runs if r.varied[_RATE] == values(runs, _RATE)[0]] for parts, runs in groups.items()}
    return [
        *regime(view, least, "Features are extended at the least rate", extended=True),
        *each_group(
            groups,
            "The least rate is the worst",
            f"Least {view.score} at other rates − at the least rate",
            _SIGN,
            lambda runs: _less_than_others(view, runs),
        ),
        *each_group(
            groups,
            "A middle rate is the best",
            f"Best {view.score} at a middle rate − the better one at the ends",
            _SIGN,
            lambda runs: _middle(view, runs),
        ),
    ]


def batch_norm_tightens(view: View) -> list[Finding]:
    """Nam fig. 7.3: with batch normalisation κ is smaller and the score better."""
    groups = scans(view, _NORM)
    return [
        *each_group(
            groups,
            "Batch normalisation tightens the regime",
            "κ without − with, same seed",
            _SIGN,
            lambda runs: _with_less_without(runs, lambda run: -_kappa(view, run)),
        ),
        *each_group(
            groups,
            f"Batch normalisation betters the {view.score}",
            f"{view.score.capitalize()} with − without, same seed",
            _SIGN,
            lambda runs: _with_less_without(runs, lambda run: _score(view, run)),
        ),
    ]


def _kappa(view: View, run: Run) -> float:
    return end(view, run, "kappa_cka")[0]


def _score(view: View, run: Run) -> float:
    found = column(view.curve(run, "test", "score", None), "value")
    if not found.size or not np.isfinite(found[-1]):
        raise NoNumberError(f"the {view.score} on test is not known at the end")
    return float(found[-1])


def _by(runs: Sequence[Run], field: str, number: Callable[[Run], float]) -> tuple[np.ndarray, np.ndarray]:
    """The values of a field, ascending, and a number at each."""
    ordered = sorted(runs, key=lambda run: run.varied[field])
    x = np.array([run.varied[field] for run in ordered], dtype=float)
    return x, np.array([number(run) for run in ordered])


def _ranked(groups: Groups, statement: str, statistic: str, number: Callable[[Run], float]) -> list[Finding]:
    def rank(runs: list[Run]) -> Number:
        x, y = _by(runs, _DECAY, number)
        return spearman(list(x), list(y)), ", ".join(told(float(abs(value)), 3) for value in y)

    return each_group(groups, statement, statistic, _ORDER, rank, above=_CLEAR)


def _less_than_others(view: View, runs: Sequence[Run]) -> Number:
    _, scores = _by(runs, _RATE, lambda run: _score(view, run))
    return float(scores[1:].min() - scores[0]), ", ".join(told(float(value), 3) for value in scores)


def _middle(view: View, runs: Sequence[Run]) -> Number:
    _, scores = _by(runs, _RATE, lambda run: _score(view, run))
    return float(scores[1:-1].max() - max(scores[0], scores[-1])), ", ".join(told(float(v), 3) for v in scores)


def _with_less_without(runs: Sequence[Run], number: Callable[[Run], float]) -> Number:
    by_norm = {bool(run.varied[_NORM]): run for run in runs}
    if len(by_norm) < 2:
        raise NoNumberError("one of the two is not there")
    one, other = number(by_norm[True]), number(by_norm[False])
    return one - other, f"{told(abs(one), 3)} with, {told(abs(other), 3)} without"


def _losses(view: View, runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    x, y = _by(runs, _SIZE, lambda run: float(loss(view, run, "test").values[-1]))
    if len(x) < _FEWEST or (y <= 0).any():
        raise NoNumberError(f"{len(x)} numbers of data with a loss, expected {_FEWEST} and positive losses")
    return np.log(x), np.log(y)


def _steepening(view: View, runs: Sequence[Run]) -> Number:
    knee, before, after = broken_line(*_losses(view, runs))
    return before - after, f"slopes {told(before, 3)}, {told(after, 3)}; knee at n = {told(round(np.exp(knee)))}"


def _knee_near(view: View, runs: Sequence[Run]) -> Number:
    knee, *_ = broken_line(*_losses(view, runs))
    x, kappa = _by(runs, _SIZE, lambda run: _kappa(view, run))
    crossings = [
        np.interp(np.log(MINIMUM_FEATURE), np.log([two, one]), np.log([n_two, n_one]))
        for (one, n_one), (two, n_two) in pairwise(zip(kappa, x, strict=True))
        if one >= MINIMUM_FEATURE > two
    ]
    if not crossings:
        raise NoNumberError(f"κ does not pass 0.1 ({told(float(kappa[0]), 3)} … {told(float(kappa[-1]), 3)})")
    there = float(crossings[-1])
    note = f"knee at n = {told(round(np.exp(knee)))}, κ = 0.1 at n = {told(round(np.exp(there)))}"
    return _OCTAVE - abs(knee - there) / np.log(2), note


_WITH_KAPPA = ("kappa_cka",)

CLAIMS: dict[str, Claim] = {
    "two_power_laws": Claim(
        two_power_laws,
        "Nam fig. 7.1",
        "feature_scaling",
        Needs(variables=_WITH_KAPPA, varied=(Varied((_SIZE,), _FEWEST),)),
    ),
    "weight_decay_tightens": Claim(
        weight_decay_tightens,
        "Nam fig. 7.2b",
        "feature_scaling",
        Needs(variables=_WITH_KAPPA, varied=(Varied((_DECAY,), 3),)),
    ),
    "learning_rate_regimes": Claim(
        learning_rate_regimes,
        "Nam fig. 7.2a",
        "feature_scaling",
        Needs(variables=_WITH_KAPPA, varied=(Varied((_RATE,), 3),)),
    ),
    "batch_norm_tightens": Claim(
        batch_norm_tightens, "Nam fig. 7.3", "feature_profiles", Needs(variables=_WITH_KAPPA, any_of=(_NORM,))
    ),
}
