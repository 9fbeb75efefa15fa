"""Claims of Nam, chapter 5: skills emerge in order, as a model that is calibrated on one skill predicts."""

import numpy as np

from tangentscope.pipeline.report.claims.claim import Claim, Needs
from tangentscope.pipeline.report.claims.findings import Finding, Sample
from tangentscope.pipeline.report.claims.readings import NoNumberError, Number, sample, spearman
from tangentscope.pipeline.report.emergence import DEFAULTS, Calibration, Emergence, calibrate, emergences
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View

_IN_ORDER = 0.8  # of five skills, one exchange of neighbours leaves 0.9
_NEAR = 0.1
_FACTOR = 1.5
_NOT_SEEN = "one skill alone is not seen to emerge"
_PRINTED = {"time": "B² = 1/22", "data": "D_c = 800", "width": "N_c = 4"}


def emergence_order(view: View) -> list[Finding]:
    """Nam fig. 5.1: the more frequent a skill, the earlier it emerges."""
    found = emergences(view)
    if found is None or not found.several:
        return []
    return [
        Finding(
            f"Skills emerge in the order of their frequencies, over {found.resource}",
            "Spearman's rank correlation of k and where R_k passes S/2",
            [sample(f"seed={each.seed}", lambda each=each: _order(each)) for each in found.several],
            "Of five skills, one exchange of neighbours leaves 0.9, two 0.8: above 0.8.",
            above=_IN_ORDER,
        )
    ]


def _order(each: Emergence) -> Number:
    half = each.half()
    if np.isfinite(half).sum() < 2:
        raise NoNumberError("fewer than two skills have emerged")
    last = float(half[np.isfinite(half)].max())
    # What has not emerged comes after all that have.
    places = [value if np.isfinite(value) else 2 * last for value in half.tolist()]
    return spearman(range(len(places)), places), f"half learned at {', '.join(map(told, half.tolist()))}"


def emergence_predicted(view: View) -> list[Finding]:
    """Nam fig. 5.1: one skill alone predicts the others."""
    found = emergences(view)
    if found is None or not found.several:
        return []
    calibration = found.calibration
    return [
        Finding(
            f"What one skill tells predicts the others, over {found.resource}",
            "mean |R_k − predicted|/S over skills and amounts",
            [sample(f"seed={each.seed}", lambda each=each: _error(calibration, each)) for each in found.several],
            "A tenth of the scale: curves that the eye takes for the same.",
            at_most=_NEAR,
        )
    ]


def _error(calibration: Calibration, each: Emergence) -> Number:
    if not calibration.from_runs:
        raise NoNumberError(_NOT_SEEN)
    predicted = calibration.predict(each.task, each.amounts)
    errors = np.abs(predicted - each.shares).mean(0)
    printed = calibration.printed(each.task, each.amounts)
    beside = "" if printed is None else f"; by eq. 5.5 as printed {np.abs(printed - each.shares).mean():.3f}"
    return float(errors.mean()), f"by skill {', '.join(f'{error:.3f}' for error in errors)}{beside}"


def emergence_calibration(view: View) -> list[Finding]:
    """Nam fig. 5.2: the constant that one skill tells, against the thesis'."""
    found = emergences(view)
    if found is None or not found.single:
        return []
    samples = []
    for each in found.single:
        fitted = calibrate(found.resource, [each])
        if fitted is None:
            samples.append(Sample(f"seed={each.seed}", None, _NOT_SEEN))
            continue
        ratio = fitted.constant / DEFAULTS[found.resource].constant
        samples.append(Sample(f"seed={each.seed}", float(np.log(ratio)), f"{told(fitted.constant)}"))
    return [
        Finding(
            f"One skill tells {_PRINTED[found.resource]}",
            "ln of the fitted constant over the thesis'",
            samples,
            "Within a factor of 1.5: B² is read off a figure of one network size.",
            above=-float(np.log(_FACTOR)),
            at_most=float(np.log(_FACTOR)),
        )
    ]


def skills_displaced(view: View) -> list[Finding]:
    """Nam Table 5.1: with few units, a rarer skill is sometimes learned in place of a more frequent one."""
    found = emergences(view)
    if found is None or not found.several:
        return []
    samples = [
        Sample(f"seed={each.seed}", float(_displaced(row)), f"R/S at the end: {', '.join(f'{x:.2f}' for x in row)}")
        for each in found.several
        for row in [each.shares[0 if found.resource == "width" else -1]]
    ]
    return [
        Finding(
            "Rarer skills are sometimes learned in place of more frequent ones",
            "1 for a run in which a skill is stronger than the one before it by S/4 or more, else 0",
            samples,
            "Sometimes is more than never: above 0.",
            above=0.0,
        )
    ]


def _displaced(row: np.ndarray) -> bool:
    return bool((np.diff(row) > 0.25).any())


_PARITIES = Needs()
CLAIMS: dict[str, Claim] = {
    "emergence_order": Claim(emergence_order, "Nam fig. 5.1", "emergence", _PARITIES),
    "emergence_predicted": Claim(emergence_predicted, "Nam fig. 5.1", "emergence", _PARITIES),
    "emergence_calibration": Claim(emergence_calibration, "Nam fig. 5.2", "emergence", _PARITIES),
    "skills_displaced": Claim(skills_displaced, "Nam Table 5.1", "emergence", _PARITIES),
}
