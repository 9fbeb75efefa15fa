"""From a study to its runs: expanded, validated, identified. Pure but for reading the data.

A run's identity is a hash of what makes its result: the scientific config, the versions of its task, model and
optimiser, the data's fingerprint and the seed. Resources, paths, probes and the code's commit are provenance.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tangentscope import models, tasks
from tangentscope.pipeline.config.components import PARTS, dump, restore
from tangentscope.pipeline.config.features import BOTH, FEATURES, FeaturePoints
from tangentscope.pipeline.config.kernel import Kernel
from tangentscope.pipeline.config.naming import short
from tangentscope.pipeline.config.optimisers import Optimiser
from tangentscope.pipeline.config.train import Course
from tangentscope.pipeline.store.planned import FurtherSteps, PlannedData, PlannedProbe, PlannedRun
from tangentscope.pipeline.study.checks import check_study
from tangentscope.pipeline.study.expansion import validated
from tangentscope.pipeline.study.features import check_features, check_trainable
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.probes import layer_names


@dataclass(frozen=True)
class Probe:
    """One kind of measurement: a kernel on given data points, and the variables of it."""

    split: str
    kernel: Kernel
    fingerprint: str  # of the task's data
    variables: tuple[str, ...] = field(compare=False)
    part: str | None = None  # of the outputs, that the kernel is of; None for all

    @property
    def id(self) -> str:
        """Hash of everything but the variables: adding one measures only that one."""
        part = {"part": self.part} if self.part else {}
        return _digest({"split": self.split, "data": self.fingerprint, **self.kernel.model_dump(), **part})

    def planned(self) -> PlannedProbe:
        """The probe as a plan has it."""
        kernel, variables = self.kernel, tuple(self.variables)
        return PlannedProbe(
            self.id, self.split, kernel.outputs, kernel.draws, kernel.size, variables,
            seed=kernel.seed, fingerprint=self.fingerprint, part=self.part,
        )  # fmt: skip


@dataclass(frozen=True)
class FeatureProbe:
    """Features of the last hidden layer on given points of the training and of the test split, and their variables."""

    points: FeaturePoints
    fingerprint: str  # of the task's data

    @property
    def id(self) -> str:
        """Hash of everything but the variables."""
        points = self.points.model_dump(exclude={"variables"})
        return _digest({"split": BOTH, "data": self.fingerprint, "outputs": FEATURES, **points})

    def planned(self) -> PlannedProbe:
        """The probe as a plan has it."""
        points = self.points
        return PlannedProbe(
            self.id, BOTH, FEATURES, 1, points.train, points.variables,
            seed=points.seed, fingerprint=self.fingerprint, held_out=points.test,
        )  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training: task × model × optimiser × seed, and when it is probed."""

    task: tasks.Task
    model: models.Model
    optimiser: Optimiser
    train: Course
    seed: int
    varied: dict[str, Any]
    data: tasks.TaskData
    probes: tuple[Probe, ...]
    study: Study

    @cached_property
    def id(self) -> str:
        """Twelve hex digits that stay the same wherever and whenever the run is trained."""
        return identity(self.config(), self.data.fingerprint)

    @property
    def name(self) -> str:
        """The varied fields and the seed, e.g. ``width=64 seed=0``."""
        parts = [f"{short(key, self.varied)}={value}" for key, value in self.varied.items()]
        return " ".join([*parts, f"seed={self.seed}"])

    @property
    def batch_size(self) -> int:
        """Points in a global batch, over all workers; of games, actions in an iteration."""
        return self.train.batch(len(self.data.train))

    @property
    def epoch_steps(self) -> int:
        """Updates in an epoch."""
        return self.train.epoch_steps(len(self.data.train))

    @property
    def steps(self) -> int:
        """Updates in the whole training; of games, iterations."""
        return self.train.steps(len(self.data.train))

    @cached_property
    def schedule(self) -> list[int]:
        """The steps at which the run is probed."""
        return self.study.probes.schedule.steps(self.steps, self.epoch_steps)

    @cached_property
    def snapshots(self) -> list[int]:
        """The steps at which a snapshot is taken: all that are probed, and more if the study wants them kept."""
        more = self.study.probes.snapshots
        return sorted({*self.schedule, *(more.steps(self.steps, self.epoch_steps) if more else ())})

    @cached_property
    def evaluations(self) -> list[int]:
        """The steps at which loss and score are taken."""
        return self.train.evaluations(len(self.data.train), self.schedule)

    @cached_property
    def features(self) -> FeatureProbe | None:
        """The features that are measured of it, if the study wants any."""
        points = self.study.probes.features
        return None if points is None else FeatureProbe(points, self.data.fingerprint)

    @property
    def every_probe(self) -> tuple[Probe | FeatureProbe, ...]:
        """Kernels and features."""
        return self.probes if self.features is None else (*self.probes, self.features)

    def outputs(self, probe: Probe) -> int:
        """Outputs of the network that a probe's kernel is of."""
        count = self.data.outputs
        return len(range(count)[self.task.parts()[probe.part]]) if probe.part else count

    @cached_property
    def parameters(self) -> int:
        """Trainable numbers of the network."""
        return sum(parameter.numel() for parameter in self._empty.parameters())

    @cached_property
    def snapshot_bytes(self) -> int:
        """Size of all parameters and buffers."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._empty.state_dict().values())

    @property
    def _empty(self) -> nn.Module:
        codes = tuple((part, tuple(counts)) for part, counts in self.data.codes.items())
        return _empty(self.model, self.data.input_shape, self.data.outputs, codes)

    def config(self) -> dict[str, Any]:
        """The scientific config with every field at its value, for people and for MLflow."""
        parts: dict[str, Any] = {kind: dump(getattr(self, kind)) for kind in PARTS}
        return {**parts, "seed": self.seed}

    def planned(self, further: tuple[FurtherSteps, ...] = ()) -> PlannedRun:
        """The run as a plan has it: all that workers, probes and reports need to know."""
        data = self.data
        return PlannedRun(
            id=self.id,
            name=self.name,
            seed=self.seed,
            varied=self.varied,
            config=self.config(),
            parameters=self.parameters,
            steps=self.steps,
            epoch_steps=self.epoch_steps,
            batch_size=self.batch_size,
            schedule=tuple(self.schedule),
            snapshots=tuple(self.snapshots),
            evaluations=tuple(self.evaluations),
            probes=tuple(probe.id for probe in self.every_probe),
            layers=tuple(layer_names(self.task.observed(self._empty))),
            data=PlannedData(
                data.source,
                data.fingerprint,
                {name: len(split) for name, split in data.splits.items()},
                tuple(data.input_shape),
                data.outputs,
                {part: tuple(counts) for part, counts in data.codes.items()},
            ),
            score=self.task.score_name,
            observes=self.task.observes,
            further=further,
        )


@lru_cache(maxsize=64)
def _empty(
    model: models.Model, input_shape: tuple[int, ...], outputs: int, codes: tuple[tuple[str, tuple[int, ...]], ...]
) -> nn.Module:
    """The network of a model, of which all seeds share one. It has shapes and no numbers: even a large one is free."""
    with torch.device("meta"):
        return model.network(input_shape, outputs, dict(codes))


_LARGEST_NETWORK = 2**44  # bytes
_OF_SIZES = (RuntimeError, ArithmeticError, TypeError, ValueError, MemoryError)  # what torch raises of sizes


def identity(config: dict[str, Any], fingerprint: str) -> str:
    """The run id of a config as :meth:`Run.config` gives it. Guarded by a golden test.

    Fields at their default are left out, so that a new field with a neutral default changes no identity; who changes
    a default raises the entry's `version`.
    """
    parts = dict(zip(PARTS, restore(config), strict=True))
    science = {kind: part.model_dump(mode="json", exclude_defaults=True) for kind, part in parts.items()}
    for kind, part in parts.items():
        science[kind] |= {"name": config[kind].get("name"), "version": part.version}
    return _digest({**science, "seed": config["seed"], "data": fingerprint})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


def _check_size(run: Run) -> None:
    if run.snapshot_bytes > _LARGEST_NETWORK:
        raise models.ModelError(f"got {run.parameters:,} parameters, more than any machine holds; give a smaller one")


def make_runs(study: Study, data_dir: Path | None, source: str = "study") -> list[Run]:
    """All runs of a study with their data loaded, in the order of the file; identical ones stand once.

    Raises:
        UserError: A value that does not hold, data that are missing or damaged, a network that cannot be built for
            them or that the task cannot learn with, more points in a draw than data, variables that are not defined
            for the kernel or the task.
    """
    loaded: dict[str, tasks.TaskData] = {}
    runs: dict[str, Run] = {}
    checked: set[tuple[str, models.Model, Course]] = set()
    for varied, (task, model, optimiser, train) in validated(study, source):
        key = task.model_dump_json()
        try:
            data = loaded[key] if key in loaded else loaded.setdefault(key, task.load(data_dir))
        except tasks.DataError as error:
            raise UserError(f"{source}: task {task.name}: {error}") from None  # pyright: ignore
        check_study(study, task, train, data, source)
        probes = tuple(
            Probe(split, study.probes.kernel, data.fingerprint, study.probes.variables, part)
            for split in (study.probes.splits if study.probes.variables else ())
            for part in study.probes.parts or (None,)
        )
        for seed in study.seed_list:
            run = Run(task, model, optimiser, train, seed, varied, data, probes, study)
            try:
                task.observed(runs.setdefault(run.id, run)._empty)  # it can be built for these data and this task
                _check_size(run)
            except (models.ModelError, tasks.NetworkError) as error:
                raise UserError(f"{source}: model {model.name}: {error}") from None
            except _OF_SIZES as error:
                problem = f"cannot be built: {one_line(error)}; give a smaller one"
                raise UserError(f"{source}: model {model.name}: {problem}") from None
        if (kind := (key, model, train)) not in checked:
            checked.add(kind)
            check_features(study.probes.features, task, model, data, source)
            check_trainable(train, model, data, source)
    return list(runs.values())
