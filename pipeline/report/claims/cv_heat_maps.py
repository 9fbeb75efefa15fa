"""What CV says of fig. 2: entropy and trace over width and depth, before and after training."""

from collections.abc import Callable

import numpy as np

from tangentscope.pipeline.report.claims.cv_scans import ACTIVATION, DEPTH, WIDTHS, end_loss
from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import (
    NoNumberError,
    Number,
    Run,
    each_group,
    measured,
    scans,
    spearman,
    values,
    varied_number,
)
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View, value_label

_QUARTER = 0.1  # nats; a tenth of a nat is a tenth more effective rank, which CV's colours still show
_SIGN = "The paper gives a direction, no size: the mean has to be above 0."


def start(view: View) -> list[Finding]:
    """CV §3.1, fig. 2a: at initialisation width raises entropy and depth lowers it; both raise the trace.

    A seed's numbers are the slopes of a least-squares plane over log₂ width and log₂ depth.
    """
    fields = _fields(view)
    findings: list[Finding] = []
    for variable, symbol in (("entropy", "S₀"), ("trace", "ln Tr₀")) if fields else ():
        for place, field in enumerate(fields):
            falls = variable == "entropy" and field == DEPTH
            name = view.short(field)
            findings += each_group(
                scans(view, *fields),
                f"At the start more {name} means {'less' if falls else 'more'} {variable}",
                f"{'−' * falls}Slope of {symbol} on log₂ {name}{', nats' if variable == 'entropy' else ''}",
                _SIGN,
                lambda runs, variable=variable, place=place, falls=falls: _slope(
                    view, runs, fields, variable, place, -1 if falls else 1
                ),
            )
    return findings


def end(view: View) -> list[Finding]:
    """CV §3.1, fig. 2b: deep and wide ReLU networks end with high entropy and a better test loss; not so with tanh.

    The quarter is the upper halves of depths and of widths.
    """
    fields = _fields(view)
    if not fields or ACTIVATION not in view.varied:
        return []
    groups = scans(view, *fields, ACTIVATION)
    relu = {parts: [run for run in runs if run.varied[ACTIVATION] == "relu"] for parts, runs in groups.items()}
    relu_only = {(*parts, "ReLU"): runs for parts, runs in relu.items() if runs}
    quarter = "S_end of the deep and wide quarter − of the rest"
    return [
        *each_group(
            relu_only,
            "Deep and wide networks end with a high entropy",
            f"{quarter}, nats",
            f"More than {_QUARTER} nats: a tenth more effective rank.",
            lambda runs: _quarter(view, runs, fields, "relu"),
            above=_QUARTER,
        ),
        *each_group(
            groups,
            "The region of high entropy is ReLU's, not tanh's",
            f"{quarter}: ReLU − tanh, nats",
            _SIGN,
            lambda runs: _relu_less_tanh(view, runs, fields),
        ),
        *each_group(
            relu_only,
            "Where entropy ends higher the test loss is lower",
            "Spearman(S_end, −ln L on test)",
            _SIGN,
            lambda runs: _with_loss(view, runs),
        ),
    ]


def _fields(view: View) -> list[str]:
    """The fields of width and depth, if both are varied in numbers together."""
    width = varied_number(view, WIDTHS)
    fields = [width, DEPTH] if width and varied_number(view, (DEPTH,)) else []
    return fields if fields and scans(view, *fields) else []


def _of_all(runs: list[Run], number: Callable[[Run], float]) -> np.ndarray:
    found = []
    for run in runs:
        try:
            found.append(number(run))
        except NoNumberError as reason:
            raise NoNumberError(f"{run.name}: {reason}") from None
    return np.array(found)


def _slope(view: View, runs: list[Run], fields: list[str], variable: str, place: int, sign: int) -> Number:
    if any(len(values(runs, field)) < 2 for field in fields):
        raise NoNumberError("a slope takes two values of each")
    at = _of_all(runs, lambda run: float(measured(view, run, variable).values[0]))
    if variable == "trace":
        if (at <= 0).any():
            raise NoNumberError("a trace is not positive")
        at = np.log(at)
    sizes = [np.log2([run.varied[field] for run in runs]) for field in fields]
    plane = np.linalg.lstsq(np.column_stack([np.ones(len(runs)), *sizes]), at, rcond=None)[0]
    names = ", ".join(
        f"{view.short(field)} {told(float(slope), 3)}" for field, slope in zip(fields, plane[1:], strict=True)
    )
    return sign * float(plane[1 + place]), f"slopes over {len(runs)} networks: {names}"


def _quarter(view: View, runs: list[Run], fields: list[str], activation: str) -> Number:
    own = [run for run in runs if run.varied[ACTIVATION] == activation]
    upper = {field: _upper_half(own, field) for field in fields}
    inside = np.array([all(run.varied[field] in upper[field] for field in fields) for run in own], dtype=bool)
    if inside.all() or not inside.any():
        raise NoNumberError(f"no networks on both sides of the deep and wide quarter, {activation}")
    ends = _of_all(own, lambda run: float(measured(view, run, "entropy").values[-1]))
    within, rest = float(ends[inside].mean()), float(ends[~inside].mean())
    which = " × ".join(f"{view.short(field)} {', '.join(map(value_label, upper[field]))}" for field in fields)
    return within - rest, f"{activation}: {told(within)} ({which}), {told(rest)}"


def _upper_half(runs: list[Run], field: str) -> list[float]:
    different = values(runs, field)
    return different[(len(different) + 1) // 2 :]


def _relu_less_tanh(view: View, runs: list[Run], fields: list[str]) -> Number:
    relu, tanh = (_quarter(view, runs, fields, activation) for activation in ("relu", "tanh"))
    return relu[0] - tanh[0], f"{relu[1]}; {tanh[1]}"


def _with_loss(view: View, runs: list[Run]) -> Number:
    ends = _of_all(runs, lambda run: float(measured(view, run, "entropy").values[-1]))
    losses = _of_all(runs, lambda run: end_loss(view, run, "test"))
    return spearman(ends.tolist(), (-losses).tolist()), f"{len(runs)} networks"
