"""Multitask sparse parity (Michaud et al. 2023; Nam §4.2.1): skills that emerge one after another."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData

SCORED = 20  # skills whose strengths are recorded, the most frequent ones


class SparseParity(Task, frozen=True):
    """Parities of few of many bits, one for each skill: half the squared error, the skills' strength as the score.

    A point is a skill k, drawn with P_k ∝ k^−(α + 1), and `bits` random bits, of which the `relevant` ones of that
    skill count: g_k = (−1)^(their sum), and 0 for all other skills. The target is S g_k. Skills' relevant bits follow
    each other, and begin anew where there are no more; none are shared if `skills` · `relevant` ≤ `bits`.

    Inputs are float32. `bits`: `[n, skills + bits]`, the skill one-hot, then the bits, each 0 or 1. `skills`: `[n,
    skills]`, the values g_k, for the model `multilinear`. `bases`: `[n, skills, functions]`, orthonormal functions of
    the bits with g_k = Σ_l e_kl/√functions, for the model `skill_bases`.

    Targets are float32 `[n, 2]`: S g_k, and which skill it is, from 0. The network has one output. A study draws its
    points once, `train_size` of them; with `online` it sees each with new bits in every step, and `batches` gives new
    ones without end, for a loop of one's own.

    Further scores are `strength_1` and so on of the first 20 skills, R_k/S of Nam eq. 4.7; NaN if a split has no point
    of a skill.

    Args:
        skills, bits, relevant: n_s, n_b and m of Nam.
        alpha: how much rarer each skill is than the one before.
        scale: S.
        train_size, test_size: D, and on how many points to test.
        balanced_test: whether there are as many test points of each skill, so that the strengths of rare ones are as
            sure; test loss and score are then those of equally frequent skills.
        inputs: see above.
        functions: basis functions of each skill, for `inputs: bases`.
        online: whether a training point comes with new bits of the same parity each time it is seen: data without
            bound, D → ∞, of which only the counts of skills are of `train_size` points. For `inputs: bits`.
        data_seed: which points.
    """

    name: Literal["sparse_parity"] = "sparse_parity"
    skills: int = Field(default=5, ge=1, le=100_000)
    bits: int = Field(default=32, ge=1, le=100_000)
    relevant: int = Field(default=3, ge=1, le=100_000)
    alpha: float = Field(default=0.6, gt=0)
    scale: float = Field(default=5.0, gt=0)
    train_size: int = Field(default=10_000, ge=1, le=10_000_000)
    test_size: int = Field(default=10_000, ge=1, le=10_000_000)
    balanced_test: bool = False
    inputs: Literal["bits", "skills", "bases"] = "bits"
    functions: int = Field(default=4, ge=1, le=100_000)
    online: bool = False
    data_seed: int = Field(default=0, ge=0, lt=2**32)

    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "strength"
    targets_observed: ClassVar[bool] = False  # beside the label, a target has the skill

    @model_validator(mode="after")
    def _bits_are_enough(self) -> "SparseParity":
        if self.relevant > self.bits:
            raise ValueError(f"a skill of {self.relevant} relevant bits needs as many bits, got {self.bits}")
        if self.inputs == "bases" and self.bits < 62 and self.functions > 2**self.bits:
            raise ValueError(f"{self.bits} bits have {2**self.bits} functions, got {self.functions}: take more bits")
        if self.balanced_test and self.test_size < self.skills:
            raise ValueError(f"a balanced test of {self.skills} skills needs as many points, got {self.test_size}")
        if self.online and self.inputs != "bits":
            raise ValueError(f"new bits are drawn of inputs bits, got inputs {self.inputs} and online: leave one out")
        return self

    def frequencies(self) -> np.ndarray:
        """P_k, `[skills]`, float64; they sum to 1."""
        weights = np.arange(1.0, self.skills + 1) ** -(self.alpha + 1)
        return weights / weights.sum()

    def target(self) -> np.ndarray:
        """The map f*(x) = xᵀS of `skills`, `[skills]`, or of `bases`, `[skills, functions]`."""
        if self.inputs == "bases":
            return np.full((self.skills, self.functions), self.scale / self.functions**0.5)
        return np.full(self.skills, self.scale)

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The points; nothing is read from `data_dir`."""
        # Only RandomState promises the same draws in every numpy release.
        random = np.random.RandomState(self.data_seed)
        train = self._points(self._drawn(self.train_size, random), random)
        in_turn = np.arange(self.test_size) % self.skills
        test = self._points(in_turn if self.balanced_test else self._drawn(self.test_size, random), random)
        counts = np.bincount(train.targets[:, 1].long(), minlength=self.skills)
        return TaskData(
            train,
            test,
            input_shape=tuple(train.inputs[0].shape),  # pyright: ignore
            outputs=1,
            source=f"parities of {self.relevant} of {self.bits} bits for {self.skills} skills as {self.inputs}, "
            f"{self.train_size} train points, from {counts.max()} to {counts.min()} a skill, and {self.test_size} test "
            f"points (data_seed {self.data_seed})",
        )

    def batches(self, size: int, seed: int = 0) -> Iterator[Split]:
        """New points without end, `size` at a time, the same for the same seed: data without bound, D → ∞."""
        random = np.random.RandomState((self.data_seed, 1, seed))
        while True:
            yield self._points(self._drawn(size, random), random)

    def augmented(self, inputs: Tensor) -> Tensor:
        """`[m, skills + bits]`: the same skills and parities with bits drawn anew, if `online`."""
        if not self.online:
            return inputs
        skill, bits = inputs[:, : self.skills], inputs[:, self.skills :]
        first = skill.argmax(1) * self.relevant
        places = (first[:, None] + torch.arange(self.relevant, device=inputs.device)) % self.bits
        drawn = torch.randint(0, 2, bits.shape, device=inputs.device).to(inputs.dtype)
        changed = (drawn.gather(1, places).sum(1) - bits.gather(1, places).sum(1)) % 2  # of other parity than before
        one = places[:, :1]
        drawn.scatter_(1, one, (drawn.gather(1, one) + changed[:, None]) % 2)
        return torch.cat([skill, drawn], 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the squared error, `[n]`, of outputs `[n, 1]`."""
        return 0.5 * (outputs[:, 0] - targets[:, 0]).square()

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Mean strength of the skills, each as often as it occurs in the split: E[f* f]/S², 1 when all are learned."""
        return (outputs[:, 0].double() * targets[:, 0]).mean().item() / self.scale**2

    def further_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """R_k/S = E[g_k f]/S over the points of a skill (Nam eq. 4.7), as `strength_1` and so on."""
        products = outputs[:, 0].double() * targets[:, 0] / self.scale**2
        return {
            f"strength_{k + 1}": products[targets[:, 1] == k].mean().item() for k in range(min(self.skills, SCORED))
        }

    def _drawn(self, size: int, random: np.random.RandomState) -> np.ndarray:
        return random.choice(self.skills, size, p=self.frequencies())

    def _points(self, skills: np.ndarray, random: np.random.RandomState) -> Split:
        bits = random.randint(0, 2, (len(skills), self.bits))
        places = (skills[:, None] * self.relevant + np.arange(self.relevant)) % self.bits
        signs = 1 - 2 * (np.take_along_axis(bits, places, 1).sum(1) % 2)
        chosen = np.zeros((len(skills), self.skills), np.float32)
        chosen[np.arange(len(skills)), skills] = 1
        if self.inputs == "bits":
            inputs = np.concatenate([chosen, bits], 1)
        elif self.inputs == "skills":
            inputs = chosen * signs[:, None]
        else:
            inputs = chosen[:, :, None] * (signs[:, None] * self._bases(bits))[:, None]
        targets = np.stack([self.scale * signs, skills], 1)
        return Split(*(torch.from_numpy(part.astype(np.float32)) for part in (inputs, targets)))

    def _bases(self, bits: np.ndarray) -> np.ndarray:
        """h_l(x) = e_kl/g_k, `[n, functions]`: orthonormal, and Σ_l h_l/√functions = 1.

        Parities of random sets of bits, the first of them empty, turned so that the first lies along the diagonal.
        """
        sets = np.zeros((1, self.bits), int)
        random = np.random.RandomState(0)  # whatever data_seed is: the same functions
        while len(sets) < self.functions:
            sets = np.concatenate([sets, random.randint(0, 2, (self.functions, self.bits))])
            sets = sets[np.sort(np.unique(sets, axis=0, return_index=True)[1])][: self.functions]
        parities = 1.0 - 2 * (bits @ sets.T % 2)
        mirror = -np.full(self.functions, self.functions**-0.5)
        mirror[0] += 1
        return parities - 2 * np.outer(parities @ mirror, mirror) / max(mirror @ mirror, 1e-300)
