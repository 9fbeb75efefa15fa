"""Skills of power-law frequency, without noise: the data of the scaling laws, one weighted point for each skill."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData

_TOLERANCE = 1e-6  # of a sum of frequencies, as they are written in a study file
_SCORED = 20  # skills whose strengths are recorded, the most frequent ones


class Skills(Task, frozen=True):
    """Learn how strong each skill is to be: half the squared error, the skills' strength as the score (Nam §4.2).

    Multitask sparse parity, `sparse_parity`, after the mean over its bits is taken: L = ½ Σ_k P_k (R_k − S)². Inputs
    are codes, int64 `[n, 1]`: k = 1, 2, … is a skill, the most frequent one first. Targets are float32 `[n, 2]`: S, and
    n P_k, by which the point's loss is weighted, so that the mean over points is the mean over data.

    Args:
        skills: n_s.
        alpha: P_k ∝ k^−(α + 1).
        frequencies: P_k, in place of `alpha`, a number for each skill, which sum to 1.
        endless: whether skills go on without end; what is beyond n_s makes one last point of code 0, which no model
            learns.
        samples: D, how many samples of them there are to learn from: d_k/D takes the place of P_k, drawn by
            `data_seed`. Without end if not given. The test split is always of all data.
        scale: S.
        data_seed: which samples.
    """

    name: Literal["skills"] = "skills"
    skills: int = Field(default=1000, ge=1, le=1_000_000)
    alpha: float = Field(default=0.6, gt=0)
    frequencies: tuple[float, ...] = ()
    endless: bool = False
    samples: int | None = Field(default=None, ge=1, le=10**15)
    scale: float = Field(default=5.0, gt=0)
    data_seed: int = Field(default=0, ge=0, lt=2**32)

    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "strength"
    targets_observed: ClassVar[bool] = False  # beside the label, a target has the weight

    @model_validator(mode="after")
    def _frequencies_sum(self) -> "Skills":
        if not self.frequencies:
            return self
        if len(self.frequencies) != self.skills or self.endless:
            raise ValueError(
                f"each skill needs a frequency, got {len(self.frequencies)} for "
                f"{'endless skills' if self.endless else f'{self.skills} skills'}: give as many, and not endless"
            )
        total = sum(self.frequencies)
        if min(self.frequencies) <= 0 or abs(total - 1) > _TOLERANCE:
            raise ValueError(f"frequencies must be above 0 and sum to 1, got a sum of {total:.10g}: divide by it")
        return self

    def shares(self) -> np.ndarray:
        """P_k, `[skills]`, and of `endless` ones that of all others as a last number; they sum to 1."""
        if self.frequencies:
            return np.array(self.frequencies) / sum(self.frequencies)
        weights = np.arange(1.0, self.skills + 1) ** -(self.alpha + 1)
        if not self.endless:
            return weights / weights.sum()
        from scipy.special import zeta  # takes a while to load, and whoever looks into the table of tasks would wait

        return np.append(weights, zeta(self.alpha + 1, self.skills + 1)) / zeta(self.alpha + 1)

    @property
    def exact_moments(self) -> bool:
        """Whether `moments` are those of the points to learn from: always."""
        return True

    def moments(self) -> np.ndarray:
        """What there is to learn from of each skill, `[skills]`: P_k, or d_k/D."""
        return self._seen()[: self.skills]

    def target(self) -> np.ndarray:
        """S of each skill, `[skills]`."""
        return np.full(self.skills, self.scale)

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The points; nothing is read from `data_dir`."""
        samples = "all data" if self.samples is None else f"{self.samples} samples (data_seed {self.data_seed})"
        beyond = " and the rest of endless ones" if self.endless else ""
        return TaskData(
            self._split(self._seen()),
            self._split(self.shares()),
            input_shape=(1,),
            outputs=1,
            source=f"{self.skills} skills of power-law frequency{beyond}, learned from {samples}, tested on all",
            codes={"skill": (self.skills + 1,)},
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the squared error times the weight, `[n]`, of outputs `[n, 1]`."""
        return 0.5 * targets[:, 1] * (outputs[:, 0] - targets[:, 0]).square()

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Mean strength of the skills, each as often as it occurs: E[f* f]/S², 1 when all are learned."""
        return (outputs[:, 0].double() * targets[:, 1]).mean().item() / self.scale

    def further_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """R_k/S of the first 20 skills (Nam eq. 4.7), as `strength_1` and so on."""
        strengths = outputs[: min(self.skills, _SCORED), 0].double() / self.scale
        return {f"strength_{k}": strength for k, strength in enumerate(strengths.tolist(), 1)}

    def _seen(self) -> np.ndarray:
        if self.samples is None:
            return self.shares()
        # Only RandomState promises the same draws in every numpy release; other numbers of samples are other draws.
        drawn = np.random.RandomState((self.data_seed, self.samples))
        return drawn.multinomial(self.samples, self.shares()) / self.samples

    def _split(self, shares: np.ndarray) -> Split:
        codes = np.arange(1, len(shares) + 1)
        codes[self.skills :] = 0
        weights = len(shares) * shares
        targets = np.stack([np.full(len(shares), self.scale), weights], 1).astype(np.float32)
        return Split(torch.from_numpy(codes)[:, None], torch.from_numpy(targets))
