"""Sine features of chosen intensities, on which linear models overfit benignly or not (Nam §1.6)."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.regression import Regression


class Sines(Regression, frozen=True):
    """Fit few points by many sines: half the squared error, R² as the score.

    Inputs are float32 `[n, features]`: √(2 ρ_k) sin(2πkx), x uniform in [0, 1], so that a linear model of them has the
    intensities ρ_k. Targets are float32 `[n, 1]`: sin(2π `frequency` x), with noise in training alone.

    Args:
        features: p, how many sines.
        intensities: `power` is ρ_k = k^(2 `exponent`), as of Nam fig. 1.2; `plateau` is 1 for the first `leading` and
            n/(p − d) for all others, as of eq. 1.36; `equal` is 1 for all.
        exponent: α of `power`: −4 prefers low frequencies, 4 high ones.
        leading: d of `plateau`.
        frequency: of the target, in periods.
        noise: standard deviation of what is added to training targets.
        random_labels: whether targets are drawn from N(0, 1) instead, for training and for testing.
        train_size, test_size: n, and on how many points to test.
        data_seed: which points, noise and labels.
    """

    name: Literal["sines"] = "sines"
    features: int = Field(default=10, ge=1, le=100_000)
    intensities: Literal["power", "plateau", "equal"] = "power"
    exponent: float = -4.0
    leading: int = Field(default=5, ge=1, le=100_000)
    frequency: int = Field(default=1, ge=1, le=100_000)
    noise: float = Field(default=0.0, ge=0)
    random_labels: bool = False
    train_size: int = Field(default=4, ge=1, le=10_000_000)
    test_size: int = Field(default=1000, ge=1, le=10_000_000)
    data_seed: int = Field(default=0, ge=0, lt=2**32)

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _leading_are_some(self) -> "Sines":
        if self.intensities == "plateau" and self.leading >= self.features:
            raise ValueError(f"a plateau of {self.leading} leading features needs more in all, got {self.features}")
        return self

    def intensity(self) -> np.ndarray:
        """ρ_k, `[features]`, float64, lowest frequency first."""
        if self.intensities == "power":
            return np.arange(1.0, self.features + 1) ** (2 * self.exponent)
        rho = np.ones(self.features)
        if self.intensities == "plateau":
            rho[self.leading :] = self.train_size / (self.features - self.leading)
        return rho

    def inputs_at(self, x: np.ndarray) -> np.ndarray:
        """What a model is given of places in [0, 1], `[n, features]`, float64; `x` is `[n]`."""
        return np.sqrt(2 * self.intensity()) * np.sin(2 * np.pi * np.arange(1, self.features + 1) * x[:, None])

    def places(self) -> np.ndarray:
        """x of the points to learn from, `[train_size]`."""
        return np.random.RandomState(self.data_seed).uniform(size=(self.train_size, 1))[:, 0]

    def target_at(self, x: np.ndarray) -> np.ndarray | None:
        """f*(x) without noise, `[n]`; None where labels are random."""
        return None if self.random_labels else np.sin(2 * np.pi * self.frequency * x)

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The points; nothing is read from `data_dir`."""
        # Only RandomState promises the same draws in every numpy release.
        random = np.random.RandomState(self.data_seed)
        train, test = (self._drawn(size, random) for size in (self.train_size, self.test_size))
        if self.noise:
            train[1][:] += self.noise * random.standard_normal(train[1].shape)
        target = "labels at random" if self.random_labels else f"sin(2π {self.frequency} x)"
        return TaskData(
            *(Split(*(torch.from_numpy(part.astype(np.float32)) for part in split)) for split in (train, test)),
            input_shape=(self.features,),
            outputs=1,
            source=f"{self.features} sines, {target}, noise {self.noise:g}, {self.train_size} train and "
            f"{self.test_size} test points (data_seed {self.data_seed})",
        )

    def _drawn(self, size: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        x = random.uniform(size=(size, 1))
        target = self.target_at(x)
        return self.inputs_at(x[:, 0]), random.standard_normal((size, 1)) if target is None else target
