"""What CV says of networks of several sizes and activations: formation grows with width, losses fall with size."""

from collections.abc import Callable, Sequence

import numpy as np

from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.claims.readings import (
    MARGIN_REASON,
    NoNumberError,
    Number,
    Run,
    each_group,
    entropy_margin,
    log_loss,
    measured,
    scans,
    spearman,
    values,
    varied_number,
)
from tangentscope.pipeline.report.formatting import number as told
from tangentscope.pipeline.report.view import View
from tangentscope.probes.trajectories.curves import COMPRESSION, learning_regime

WIDTHS = ("model.width", "model.dim", "model.hidden")
DEPTH, ACTIVATION = "model.depth", "model.activation"
FEWEST_SIZES = 3  # of two, ranks say no more than a sign

_SIGN = "The paper gives a direction, no size: the mean has to be above 0."


def formation_grows_with_width(view: View) -> list[Finding]:
    """CV §3.1: small networks' entropy "remains low", the larger ones "undergo structure formation".

    A seed's number is Spearman's correlation of width and S_end − S_min over the networks that differ by width.
    """
    return [
        finding
        for field in _field(view, WIDTHS)
        for finding in each_group(
            scans(view, field, least=FEWEST_SIZES),
            f"Formation grows with {view.short(field)}",
            f"Spearman({view.short(field)}, S_end − S_min)",
            "A clear order, not a tendency: above .5, of 1 for networks in perfect order.",
            lambda runs, field=field: _ranks(runs, field, lambda run: _rebound(view, run)),
            above=0.5,
        )
    ]


def small_compress_large_form(view: View) -> list[Finding]:
    """CV-notes: small networks "exhibit information compression (entropy decrease)", large ones "structure formation".

    Two numbers a seed: of the smallest network S_0 − S_end, of the largest S_end − S_0, each less the margin.
    """
    findings: list[Finding] = []
    for field in _field(view, WIDTHS):
        groups = scans(view, field)
        for which, sign, size in (("smallest", -1, min), ("largest", 1, max)):
            findings += each_group(
                groups,
                f"The {which} network {'forms' if sign > 0 else 'compresses'}",
                f"{'S_end − S₀' if sign > 0 else 'S₀ − S_end'} − margin, nats",
                MARGIN_REASON,
                lambda runs, sign=sign, size=size, field=field: _net(view, runs, field, size, sign),
            )
    return findings


def loss_trends(view: View) -> list[Finding]:
    """CV §3.1, figs 1, 2, 4, 5: wider, deeper, tanh → lower losses; compressing networks "attain a worse" loss.

    Where more depth lowers the test loss it may raise the train loss: the two are separate findings.
    """
    findings: list[Finding] = []
    for field in _field(view, WIDTHS):
        for split in ("test", "train"):
            findings += _trend(view, field, split, "lower", "More width, lower loss")
    if varied_number(view, (DEPTH,)):
        findings += _trend(view, DEPTH, "test", "lower", "More depth, lower loss")
        findings += _trend(view, DEPTH, "train", "higher", "More depth, higher loss")
    if ACTIVATION in view.varied and {"relu", "tanh"} <= {*values(view.runs, ACTIVATION)}:
        pairs = {parts: runs for parts, runs in scans(view, ACTIVATION).items() if _both(runs)}
        for split in ("test", "train"):
            findings += each_group(
                pairs,
                f"tanh has a lower loss than ReLU, {split}",
                f"ln L(ReLU) − ln L(tanh) on {split} at the end",
                _SIGN,
                lambda runs, split=split: _relu_less_tanh(view, runs, split),
            )
    if len(view.networks) > 1:
        findings += each_group(
            {(): view.runs},
            "Networks that only compress end worse",
            "Mean ln L on test at the end of those that only compress − of the others",
            _SIGN,
            lambda runs: _compressing_less_others(view, runs),
        )
    return findings


def _field(view: View, fields: Sequence[str]) -> list[str]:
    found = varied_number(view, fields)
    return [found] if found else []


def _trend(view: View, field: str, split: str, way: str, statement: str) -> list[Finding]:
    sign = -1 if way == "lower" else 1
    return each_group(
        scans(view, field, least=FEWEST_SIZES),
        f"{statement}, {split}",
        f"Spearman({view.short(field)}, {'−' if sign < 0 else ''}ln L on {split} at the end)",
        _SIGN,
        lambda runs: _ranks(runs, field, lambda run: sign * end_loss(view, run, split)),
    )


def _ranks(runs: list[Run], field: str, number: Callable[[Run], float]) -> Number:
    """Spearman's correlation of a varied field with a number over networks of one seed."""
    at = {run.varied[field]: number(run) for run in runs}
    told_at = ", ".join(f"{size}: {told(value, 3)}" for size, value in sorted(at.items()))
    if len(at) < FEWEST_SIZES:
        raise NoNumberError(f"{len(at)} sizes, ranks take {FEWEST_SIZES}")
    return spearman(list(at), list(at.values())), told_at


def end_loss(view: View, run: Run, split: str) -> float:
    """ln L at the last step."""
    return float(log_loss(view, run, split).values[-1])


def _rebound(view: View, run: Run) -> float:
    entropy = measured(view, run, "entropy").values
    return float(entropy[-1] - entropy.min())


def _net(view: View, runs: list[Run], field: str, size: Callable[[list], float], sign: int) -> Number:
    chosen = size([run.varied[field] for run in runs])
    run = next(run for run in runs if run.varied[field] == chosen)
    entropy = measured(view, run, "entropy")
    start, end = float(entropy.values[0]), float(entropy.values[-1])
    margin = entropy_margin(entropy, 0, -1)
    note = f"{view.short(field)} {told(chosen)}: S {told(start)} → {told(end)}; margin {told(margin, 2)}"
    return sign * (end - start) - margin, note


def _both(runs: Sequence[Run]) -> bool:
    return {"relu", "tanh"} <= {run.varied[ACTIVATION] for run in runs}


def _relu_less_tanh(view: View, runs: list[Run], split: str) -> Number:
    at = {run.varied[ACTIVATION]: end_loss(view, run, split) for run in runs}
    if not {"relu", "tanh"} <= {*at}:
        raise NoNumberError("no run of both activations")
    return at["relu"] - at["tanh"], f"ln L: ReLU {told(at['relu'])}, tanh {told(at['tanh'])}"


def _compressing_less_others(view: View, runs: list[Run]) -> Number:
    losses: dict[bool, list[float]] = {True: [], False: []}
    for run in runs:
        losses[only_compresses(view, run)].append(end_loss(view, run, "test"))
    if not all(losses.values()):
        raise NoNumberError(f"{'no' if not losses[True] else 'every'} network only compresses")
    means = {which: float(np.mean(found)) for which, found in losses.items()}
    note = f"{len(losses[True])} networks: {told(means[True])}; {len(losses[False])} others: {told(means[False])}"
    return means[True] - means[False], note


def only_compresses(view: View, run: Run) -> bool:
    """Whether the run's regime (`trajectories.curves.learning_regime`) is compression alone."""
    entropy = measured(view, run, "entropy")
    regime = learning_regime(entropy.values, entropy.errors)
    if regime is None:
        raise NoNumberError("too few steps for a regime")
    return regime.label == COMPRESSION
