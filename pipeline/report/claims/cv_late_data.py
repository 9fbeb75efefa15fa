"""What CV says of data that come late: one step on a new point moves a trained network more than an untrained one."""

import numpy as np

from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import NoNumberError, Number, Run, each_network, measured
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View

STEPS = {"new_point_step_parameters": "‖Δθ‖", "new_point_step_outputs": "‖Δf‖"}
_CHANGED = {"new_point_step_parameters": "parameters", "new_point_step_outputs": "outputs"}


def late_data(view: View) -> list[Finding]:
    """CV §3.1: data added late cause "a larger change in parameters than it would at the start of training, even if
    the loss computed on this value were the same at both times".

    A run's numbers are ln(‖Δθ‖_end/‖Δθ‖_0) and ln(‖Δf‖_end/‖Δf‖_0) of one step on a test point, means over points.
    """
    return [
        finding
        for variable, symbol in STEPS.items()
        for finding in each_network(
            view,
            f"One step on a new point changes the {_CHANGED[variable]} more at the end",
            f"ln({symbol}_end / {symbol}₀) at a loss of ln C, test points",
            "The paper says larger, not by how much: above 0.",
            lambda run_view, run, variable=variable, symbol=symbol: _growth(run_view, run, variable, symbol),
        )
    ]


def _growth(view: View, run: Run, variable: str, symbol: str) -> Number:
    steps = measured(view, run, variable, "test")
    start, end = float(steps.values[0]), float(steps.values[-1])
    if min(start, end) <= 0:
        raise NoNumberError(f"{symbol} is not positive")
    return float(np.log(end / start)), f"{symbol} {told(start)} → {told(end)} per unit of the rate"
