"""What feature variables share, computed once for all who ask. Argument names say what each is computed from.

Inner products ⟨f|g⟩ are means over data points. Shapes: p features, n points, O outputs, C classes, D target
functions, q coordinates of a function on the held-out points (see ``Sample``).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from tangentscope.probes.features.last_layer import FeatureMap, Features
from tangentscope.probes.features.sample import Sample, blocks_of, coordinates


class UndefinedError(ValueError):
    """A quantity that these data or this network do not define; the message is the reason."""


@dataclass(frozen=True)
class FeatureSpectrum:
    """The operator T = Σ_k |Φ_k⟩⟨Φ_k|, taken apart on the training points.

    intensities: ρ_k, descending; 0 where Φ's own precision cannot tell it from 0, NaN beyond as many as there are
    points. scales, directions: s_k = √ρ_k and u_k of those that are positive, by which e_k(x) = u_kᵀΦ(x)/s_k.
    """

    intensities: Float64[np.ndarray, " p"]
    scales: Float64[Tensor, " k"]
    directions: Float64[Tensor, "p k"]


@dataclass(frozen=True)
class Eigenfunctions:
    """Those e_k that have an intensity, on the held-out points, in the order of their intensities.

    values: their coordinates; as many as there are held-out points at most. noise: what rounding adds to the norm of
    each. intensities: of all p.
    """

    values: Float64[Tensor, "q k"]
    noise: Float64[Tensor, " k"]
    intensities: Float64[np.ndarray, " p"]

    @cached_property
    def norms(self) -> Float64[Tensor, " k"]:
        """√⟨e_k|e_k⟩, 0 where it is nothing but rounding."""
        norms = self.values.norm(dim=0)
        return torch.where(norms > self.noise, norms, 0.0)

    def overlaps(self, space: Float64[Tensor, "q dim"]) -> Float64[np.ndarray, " p"]:
        """⟨e_k|P[e_k]⟩/dim of the projection P on the orthonormal ``space``, by the norms of e_k (eq. 1.34)."""
        along = (self.values.T @ space).square().sum(1) / space.shape[1]
        return self.of_all(torch.where(self.norms > 0, along / self.norms.square(), 0.0))

    def expressed(self, space: Float64[Tensor, "q dim"]) -> Float64[np.ndarray, " p"]:
        """The share of the orthonormal ``space`` that the first k eigenfunctions span, for every k."""
        kept = torch.arange(self.values.shape[1], device=self.values.device)
        while True:
            basis, triangle = torch.linalg.qr(self.values[:, kept])
            new = triangle.diagonal().abs() > self.noise[kept]  # not made of those before
            if bool(new.all()):
                break
            kept = kept[new]
        shares = self.values.new_zeros(self.values.shape[1])
        shares[kept] = (basis.T @ space).square().sum(1) / space.shape[1]
        return np.minimum(self.of_all(shares.cumsum(0), beyond="last"), 1.0)

    def of_all(self, values: Float64[Tensor, " k"], beyond: str = "zero") -> Float64[np.ndarray, " p"]:
        """For all features: those without intensity add nothing, those that the points cannot show are NaN."""
        k = len(values)
        fill = float(values[-1]) if beyond == "last" and k else 0.0
        every = np.full(len(self.intensities), fill)
        every[:k] = values.cpu().numpy()
        every[k:][~(self.intensities[k:] == 0)] = np.nan
        return every


@dataclass(frozen=True)
class ClassFeatures:
    """Features of the training points by their classes (Nam eq. D.2-D.5, with the classes' own numbers of points).

    means: μ_i. spread: μ_i − μ_g. axes, sizes: the directions and singular values of the spread, so that
    Σ_b = axes · sizes² · axesᵀ/C. within: Σ_W · axes.
    """

    means: Float64[Tensor, "C p"]
    spread: Float64[Tensor, "C p"]
    axes: Float64[Tensor, "p r"]
    sizes: Float64[Tensor, " r"]
    within: Float64[Tensor, "p r"]


def train_pass(feature_map: FeatureMap, train_inputs: Any) -> Features:
    """Φ, outputs and last layer, of the training points."""
    return feature_map(train_inputs)


def test_pass(feature_map: FeatureMap, test_inputs: Any) -> Features:
    """The same of the held-out points."""
    return feature_map(test_inputs)


def train_features(train_pass: Features) -> Features:
    """Those of the training points, all of them finite."""
    return _finite(train_pass, "training")


def test_features(test_pass: Features) -> Features:
    """Those of the held-out points, all of them finite."""
    return _finite(test_pass, "held-out")


def feature_spectrum(train_features: Features) -> FeatureSpectrum:
    """Nam algorithm 1 on φ/√n, in float64."""
    values, n = train_features.values, len(train_features)
    p = values.shape[1]
    triangle = coordinates((values[rows].double() for rows in blocks_of(n, p)), n)
    _, s, Vh = torch.linalg.svd(triangle, full_matrices=False)
    resolved = s > s[0] * max(torch.finfo(values.dtype).eps, _rounding(n, p))
    intensities = np.full(p, np.nan)
    intensities[: len(s)] = torch.where(resolved, s.square(), 0.0).cpu().numpy()
    return FeatureSpectrum(intensities, s[resolved], Vh[resolved].T)


def intensities(feature_spectrum: FeatureSpectrum) -> Float64[np.ndarray, " p"]:
    """ρ_k, descending."""
    return feature_spectrum.intensities


def sample(test_features: Features, sample_targets: Tensor | None) -> Sample:
    """Features, outputs, targets if there are any, and the constant function on the held-out points.

    Outputs are those of the last layer in float64, so that they lie in the span of the features as precisely.
    """
    n, p, outputs = len(test_features), test_features.values.shape[1], len(test_features.bias)

    def block(rows: slice) -> Tensor:
        features = test_features.values[rows].double()
        constant = features.new_ones(len(features), 1)
        targets = constant[:, :0] if sample_targets is None else _functions(sample_targets[rows], outputs).to(constant)
        learned = features @ test_features.weight.T + test_features.bias
        return torch.cat([features, learned, constant, targets], 1)

    together = coordinates((block(rows) for rows in blocks_of(n, p + 2 * outputs)), n)
    features, learned, constant, targets = together.tensor_split([p, p + outputs, p + outputs + 1], 1)
    return Sample(n, features, learned, targets, constant[:, 0])


def eigenfunctions(feature_spectrum: FeatureSpectrum, sample: Sample) -> Eigenfunctions:
    """e_k on the held-out points (eq. 1.33)."""
    k = min(len(feature_spectrum.scales), sample.points)
    if not k:
        raise UndefinedError("all features are 0 at all training data points")
    scales = feature_spectrum.scales[:k]
    values = sample.features @ feature_spectrum.directions[:, :k] / scales
    noise = (
        _rounding(sample.points, len(feature_spectrum.directions)) * torch.linalg.matrix_norm(sample.features) / scales
    )
    return Eigenfunctions(values, noise, feature_spectrum.intensities)


def target_space(sample: Sample, test_targets: Tensor) -> Float64[Tensor, "q dim"]:
    """An orthonormal basis of H* = span{f*_1, …, f*_C}."""
    if not test_targets.is_floating_point():
        check_all_classes(test_targets, sample.targets.shape[1], "held-out")
    elif not bool(torch.isfinite(test_targets).all()):
        raise UndefinedError("some held-out targets are not finite: leave their data points out")
    if not bool(sample.targets.any()):
        raise UndefinedError("all held-out targets are 0, and have no direction")
    return _basis(sample.targets, _rounding(sample.points, sample.targets.shape[1]))


def learned_space(sample: Sample, test_features: Features) -> Float64[Tensor, "q dim"]:
    """An orthonormal basis of Ĥ, the span of the network's outputs."""
    rounding = torch.finfo(test_features.values.dtype).eps
    if sample.centred(sample.outputs).norm() <= rounding * sample.outputs.norm():
        raise UndefinedError("the outputs are the same for all held-out data points: nothing has been learned")
    # Outputs are right to a few units in the last place each; over K of them these add up as noise does.
    return _basis(sample.outputs, 8 * rounding * math.sqrt(sample.outputs.shape[1]))


def centred_features(sample: Sample, test_features: Features) -> Float64[Tensor, "q p"]:
    """Features less their means over the held-out points."""
    centred = sample.centred(sample.features)
    if centred.norm() <= torch.finfo(test_features.values.dtype).eps * sample.features.norm():
        raise UndefinedError("the features are the same for all held-out data points")
    return centred


def class_features(train_features: Features, train_classes: Int64[Tensor, " n"]) -> ClassFeatures:
    """Class means, and how features scatter between and within classes along the directions of the means."""
    values, n, C = train_features.values, len(train_features), len(train_features.bias)
    if C < 2:
        raise UndefinedError("there is one class, expected two at least")
    check_all_classes(train_classes, C, "training")
    p = values.shape[1]
    classes = train_classes.to(values.device)
    blocks = list(blocks_of(n, p))
    sums = torch.zeros(C, p, dtype=torch.float64, device=values.device)
    for rows in blocks:
        sums.index_add_(0, classes[rows], values[rows].double())
    means = sums / torch.bincount(classes, minlength=C)[:, None]
    spread = means - means.mean(0)
    axes, sizes, _ = torch.linalg.svd(spread.T, full_matrices=False)
    rounding = torch.finfo(values.dtype).eps
    if bool(spread.norm() <= rounding * means.norm()):
        raise UndefinedError("all classes have the same mean features")
    resolved = sizes > max(C, p) * torch.finfo(torch.float64).eps * sizes[0]
    axes, sizes = axes[:, resolved][:, : C - 1], sizes[resolved][: C - 1]
    within = torch.zeros(p, len(sizes), dtype=torch.float64, device=values.device)
    for rows in blocks:
        off = values[rows].double() - means[classes[rows]]
        within += off.T @ (off @ axes)
    return ClassFeatures(means, spread, axes, sizes, within / n)


def check_all_classes(classes: Int64[Tensor, " n"], count: int, split: str) -> None:
    """UndefinedError unless there is a data point of every class."""
    absent = (torch.bincount(classes.cpu(), minlength=count) == 0).nonzero()[:, 0].tolist()
    if absent:
        which = ", ".join(map(str, absent[:5])) + (", …" if len(absent) > 5 else "")
        raise UndefinedError(f"no {split} data point is of class {which} (of {count}): draw points of every class")


def _finite(features: Features, split: str) -> Features:
    good = torch.isfinite(features.values).all(1) & torch.isfinite(features.outputs).all(1)
    if not bool(good.all()):
        first = int((~good).nonzero()[0, 0])
        raise UndefinedError(
            f"features or outputs of {int((~good).sum())} of {len(features)} {split} data points are not finite, "
            f"point {first} the first: look at its inputs and at the network's parameters"
        )
    return features


def _functions(targets: Tensor, outputs: int) -> Float64[Tensor, "n D"]:
    """Target functions: of classes, one for each that is 1 there and 0 elsewhere (eq. 2.1)."""
    if targets.is_floating_point():
        return targets.double().reshape(len(targets), -1).nan_to_num(0, 0, 0)  # see ``target_space``
    return torch.nn.functional.one_hot(targets.long(), outputs).double()


def _rounding(points: int, functions: int) -> float:
    """Of singular values of a matrix [points, functions] in float64, relative to the largest, at most."""
    return max(points, functions) * torch.finfo(torch.float64).eps


def _basis(functions: Float64[Tensor, "q functions"], rounding: float) -> Float64[Tensor, "q dim"]:
    """Orthonormal, of the span of the functions; directions that are nothing but rounding are left out."""
    U, s, _ = torch.linalg.svd(functions, full_matrices=False)
    return U[:, s > rounding * s[0]]
