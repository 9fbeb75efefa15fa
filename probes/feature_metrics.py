"""All that can be measured of a network's last hidden layer, on points it learned from and on held-out ones."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from tangentscope.probes.features.last_layer import Features, feature_map
from tangentscope.probes.givens import outputs_of
from tangentscope.probes.network.function import Function
from tangentscope.probes.network.output import Output
from tangentscope.probes.variables.features import FEATURE_GIVENS, FEATURE_NEEDS, FEATURE_VARIABLES
from tangentscope.probes.variables.features.kappa_cka import Regime, regime_of
from tangentscope.probes.variables.features.quantities import UndefinedError
from tangentscope.probes.variables.resolve import chain, resolve

CHANCE = 0.1
"""A note is made where features express more than this share of any function on the held-out points, by chance."""

WHOLE = frozenset({"feature_trace", "feature_constant_overlap"})
"""Variables for which the last features do not matter."""


@dataclass(frozen=True)
class FeatureMetrics:
    """Variables of a network's last hidden layer.

    values: by variable, a number; NaN where it is undefined.
    profiles: by variable that is a profile, a number for each of the p features; of length 1 where it is undefined.
    reasons: by variable that is undefined, why.
    notes: by variable that few points cut off or blur, where and how.
    points: numbers of data points to learn from and held out; 0 where no variable asked for them.
    """

    values: dict[str, float]
    profiles: dict[str, Float64[np.ndarray, " length"]]
    points: tuple[int, int]
    reasons: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | Float64[np.ndarray, " length"]:
        if name not in self.values and name not in self.profiles:
            measured = ", ".join([*self.values, *self.profiles])
            raise KeyError(f"{name!r} was not measured, only {measured}: ask feature_metrics() for it")
        return self.values[name] if name in self.values else self.profiles[name]

    @property
    def regime(self) -> Regime | None:
        """Minimum feature where κ_CKA < 0.1, else extended feature (Nam Def. 2); None where κ_CKA is not known."""
        return regime_of(self.values.get("kappa_cka", math.nan))


def feature_metrics(
    model: nn.Module,
    train: tuple[Any, Tensor | None] | None = None,
    test: tuple[Any, Tensor | None] | None = None,
    names: Iterable[str] | None = None,
    *,
    learned_points: int | None = None,
    output: Output = None,
    memory_bytes: int | None = None,
) -> FeatureMetrics:
    """Variables of the last hidden layer as a linear model's features (Nam ch. 1, 2, App. D), in float64.

    Eigenfunctions, intensities and neural collapse are those of the training points; quality, utilisation, κ_CKA and
    alignment are measured on held-out ones. Each point passes the network once. Beside the features themselves, memory
    does not grow with the points. What cannot be computed is NaN, with its reason, and leaves the others as they are.

    Args:
        model: whose outputs come of one last linear layer, see ``feature_map``; left as it was.
        train: data points to learn from, as for ``tangent_kernel``, and their targets: whole numbers [n] for classes,
            one for each output; numbers [n] or [n, ...] for regression; None.
        test: held-out data points and their targets.
        names: out of ``FEATURE_VARIABLES``; by default all for which enough is given.
        learned_points: n of ``learnability``.
        output, memory_bytes: as for ``feature_map``.

    Raises:
        ValueError: an unknown name; a variable that needs what is not given; targets that do not fit; a network
            without one last linear layer.
        TypeError: train or test is no pair; whatever ``feature_map`` raises.
    """
    given = _given(model, {"train": train, "test": test}, output)
    given |= {"feature_map": feature_map(model, output=output, memory_bytes=memory_bytes)}
    given |= {} if learned_points is None else {"learned_points": learned_points}
    chosen = _chosen(names, given)
    values: dict[str, float] = {}
    profiles: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    known = given | {"sample_targets": given.get("test_targets")}
    for name in chosen:
        variable = FEATURE_VARIABLES[name]
        try:
            value = variable.compute(**{need: resolve(need, known, FEATURE_NEEDS) for need in variable.needs})
        except UndefinedError as error:
            value, reasons[name] = math.nan, str(error)
        if variable.kind == "profile":
            profiles[name] = np.atleast_1d(value)
        else:
            values[name] = float(value)
            if math.isnan(values[name]):
                reasons.setdefault(name, "0 divided by 0: no feature has a share in it")
    points = (len(known.get("train_pass", ())), len(known.get("test_pass", ())))
    return FeatureMetrics(values, profiles, points, reasons, _notes(set(chosen) - reasons.keys(), known))


def _chosen(names: Iterable[str] | None, given: Mapping[str, Any]) -> list[str]:
    """The names, checked, or all for which enough is given."""
    if names is None:
        return [name for name in FEATURE_VARIABLES if not _missing(name, given)]
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in FEATURE_VARIABLES:
            near = difflib.get_close_matches(str(name), FEATURE_VARIABLES, n=1)
            hint = f", did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"unknown feature variable {name!r}{hint} Expected one of: {', '.join(FEATURE_VARIABLES)}")
        if missing := _missing(name, given):
            raise ValueError(f"{name} needs {missing[0].replace('_', ' ')}: {FEATURE_GIVENS[missing[0]]}")
    return chosen


def _missing(name: str, given: Mapping[str, Any]) -> list[str]:
    return sorted((chain(FEATURE_VARIABLES[name].needs, given, FEATURE_NEEDS) & FEATURE_GIVENS.keys()) - given.keys())


def _given(model: nn.Module, splits: Mapping[str, Any], output: Output) -> dict[str, Any]:
    """Inputs and targets of both splits, as far as they are given.

    Raises:
        TypeError, ValueError: a split is no pair of as many targets as inputs.
    """
    given: dict[str, Any] = {}
    for split, pair in splits.items():
        if pair is None:
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{split} is a {type(pair).__name__}, expected (inputs, targets): pass None for no targets")
        inputs, targets = pair
        given[f"{split}_inputs"] = inputs
        if targets is None:
            continue
        targets = torch.as_tensor(targets).detach()
        _check_targets(model, inputs, targets, output, split)
        given[f"{split}_targets"] = targets
        if not targets.is_floating_point():
            given[f"{split}_classes"] = targets.long()
    return given


def _check_targets(model: nn.Module, inputs: Any, targets: Tensor, output: Output, split: str) -> None:
    """ValueError unless there are targets of each data point, which fit the network's outputs."""
    points, outputs = len(Function(model, output).batch(inputs, f"{split} inputs")), outputs_of(model, inputs, output)
    shape = list(targets.shape)
    if targets.dim() == 0 or len(targets) != points:
        raise ValueError(f"{split} has targets of shape {shape} for {points} inputs: pass one for each")
    if targets.is_floating_point():
        if targets[0].numel() != outputs:
            raise ValueError(
                f"{split} has targets of shape {shape} for {outputs} outputs: pass as many numbers a data point, or "
                "whole numbers for classes"
            )
        return
    if targets.dim() != 1 or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(
            f"{split} has {targets.dtype} targets of shape {shape}, expected whole numbers [n] for classes or "
            "floating-point numbers [n, ...] for regression: convert them"
        )
    least, most = int(targets.min()), int(targets.max())
    if outputs == 1 or least < 0 or most >= outputs:
        raise ValueError(
            f"{split} has classes {least} … {most} for {outputs} outputs, expected one output for each class from 0 "
            "on: leave points without a class out, or pass floating-point numbers for regression"
        )


def _notes(names: Iterable[str], known: Mapping[str, Any]) -> dict[str, str]:
    """Where there are too few points for the variables ``names``."""
    train, test = known.get("train_features"), known.get("test_features")
    spectrum = known.get("feature_spectrum")
    if spectrum is None or not isinstance(train, Features):
        return {}
    p, n = len(spectrum.intensities), len(train)
    cut = f"of {p} features only the first {n} are known, as many as there are training data points" if n < p else ""
    notes: dict[str, str] = {}
    for name in names:
        needed = chain(FEATURE_VARIABLES[name].needs, (), FEATURE_NEEDS)
        parts = [cut] if "feature_spectrum" in needed and name not in WHOLE else []
        if {"target_space", "learned_space"} & needed and "eigenfunctions" in needed and isinstance(test, Features):
            shown = min(len(spectrum.scales), len(test))
            if len(spectrum.scales) > len(test):
                parts.append(f"only the first {shown} are measured, as many as there are held-out data points")
            elif shown > CHANCE * len(test):
                parts.append(
                    f"on {len(test)} held-out data points any {shown} features express {shown / len(test):.0%} of any "
                    "function by chance: take more points"
                )
        if note := "; ".join(filter(None, parts)):
            notes[name] = note
    return notes
