"""Linear targets of Gaussian inputs, with chosen scales and variances, for layerwise linear models (Nam §3.2)."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.regression import Regression


class GaussianLinear(Regression, frozen=True):
    """Learn S_i from Σ_i S_i x_i, or from all S_i x_i apart: half the squared error, R² as the score.

    Inputs are float32 `[n, d]`, independent and Gaussian. Targets are float32 `[n, 1]`, or `[n, d]` if `apart`.

    Args:
        scales: S_i.
        variances: E[x_i²], a number for each scale; all 1 if none are given.
        apart: whether output i is S_i x_i, so that nets of matrices have d modes; else one output is the sum.
        exact: whether inputs to learn from have these second moments exactly, as closed forms want it: no correlations
            at all. Test points are always free draws.
        train_size, test_size: at least as many train points as inputs if `exact`.
        data_seed: which points.
    """

    name: Literal["gaussian_linear"] = "gaussian_linear"
    scales: tuple[float, ...] = Field(default=(1.0, 1.0, 1.0, 1.0, 1.0), min_length=1)
    variances: tuple[float, ...] = ()
    apart: bool = False
    exact: bool = True
    train_size: int = Field(default=1000, ge=1, le=10_000_000)
    test_size: int = Field(default=1000, ge=1, le=10_000_000)
    data_seed: int = Field(default=0, ge=0, lt=2**32)

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _sizes_fit(self) -> "GaussianLinear":
        if self.variances and len(self.variances) != len(self.scales):
            raise ValueError(
                f"each scale needs a variance, got {len(self.scales)} scales, {len(self.variances)} variances"
            )
        if not all(variance > 0 for variance in self.variances):
            raise ValueError(f"variances must be above 0, got {self.variances}")
        if self.exact and self.train_size < len(self.scales):
            raise ValueError(
                f"exact moments of {len(self.scales)} inputs need as many points, got train_size {self.train_size}: "
                "take more or set exact to false"
            )
        return self

    @property
    def exact_moments(self) -> bool:
        """Whether `moments` are those of the points to learn from."""
        return self.exact

    def moments(self) -> np.ndarray:
        """E[x_i²], `[d]`."""
        return np.array(self.variances or [1.0] * len(self.scales))

    def target(self) -> np.ndarray:
        """The map f*(x) = xᵀS: `[d]`, or `[d, d]` if `apart`."""
        return np.diag(self.scales) if self.apart else np.array(self.scales)

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The points; nothing is read from `data_dir`."""
        # Only RandomState promises the same draws in every numpy release.
        random = np.random.RandomState(self.data_seed)
        train, test = (random.standard_normal((size, len(self.scales))) for size in (self.train_size, self.test_size))
        if self.exact:
            train = np.linalg.qr(train)[0] * np.sqrt(self.train_size)
        map_ = self.target().reshape(len(self.scales), -1)
        splits = (x * np.sqrt(self.moments()) for x in (train, test))
        return TaskData(
            *(Split(*(torch.from_numpy(part.astype(np.float32)) for part in (x, x @ map_))) for x in splits),
            input_shape=(len(self.scales),),
            outputs=map_.shape[1],
            source=f"a linear target of {len(self.scales)} Gaussian inputs, {self.train_size} train points"
            f"{' of exact second moments' * self.exact} and {self.test_size} test points (data_seed {self.data_seed})",
        )
