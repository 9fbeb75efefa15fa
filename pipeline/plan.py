"""From a study to its runs: expanded, validated, identified. Pure but for reading the data.

A run's identity is a hash of what makes its result: the scientific config, the versions of its task, model and
optimiser, the data's fingerprint and the seed. Resources, paths, probes and the code's commit are provenance.
"""

import copy
import hashlib
import itertools
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

import models
import tasks
from pipeline.errors import UserError
from pipeline.optimisers import Optimiser
from pipeline.spec import Kernel, Study, Train, named, put, validate
from pipeline.units import told
from probes import givens_of, layer_names
from probes.variables import check_treatment


@dataclass(frozen=True)
class Probe:
    """One kind of measurement: a kernel on given data points, and the variables of it."""

    split: str
    kernel: Kernel
    fingerprint: str  # of the task's data
    variables: tuple[str, ...] = field(compare=False)

    @property
    def id(self) -> str:
        """Hash of everything but the variables: adding one measures only that one."""
        return _digest({"split": self.split, "data": self.fingerprint, **self.kernel.model_dump()})

    def record(self) -> dict[str, Any]:
        """The probe as ``plan.json`` keeps it."""
        kernel = self.kernel.model_dump()
        return {
            "probe": self.id,
            "split": self.split,
            **kernel,
            "fingerprint": self.fingerprint,
            "variables": list(self.variables),
        }


@dataclass(frozen=True)
class Run:
    """One training: task × model × optimiser × seed, and when it is probed."""

    task: tasks.Task
    model: models.Model
    optimiser: Optimiser
    train: Train
    seed: int
    varied: dict[str, Any]
    data: tasks.TaskData
    probes: tuple[Probe, ...]
    study: Study

    @property
    def id(self) -> str:
        """Twelve hex digits that stay the same wherever and whenever the run is trained."""
        return identity(self.config(), self.data.fingerprint)

    @property
    def name(self) -> str:
        """The varied fields and the seed, e.g. ``width=64 seed=0``."""
        parts = [f"{key.rpartition('.')[2]}={told(value)}" for key, value in self.varied.items()]
        return " ".join([*parts, f"seed={self.seed}"])

    @property
    def batch_size(self) -> int:
        """Points in a global batch, over all workers."""
        return len(self.data.train) if self.train.batch_size == "full" else self.train.batch_size

    @property
    def epoch_steps(self) -> int:
        """Updates in an epoch; the last batch may be smaller than the others."""
        return -(-len(self.data.train) // self.batch_size)

    @property
    def steps(self) -> int:
        """Updates in the whole training."""
        return max(1, round(self.train.epochs * self.epoch_steps))

    @property
    def schedule(self) -> list[int]:
        """The steps at which a snapshot is taken."""
        return self.study.probes.schedule.steps(self.steps, self.epoch_steps)

    @property
    def evaluations(self) -> list[int]:
        """The steps at which loss and score are taken: each `evaluate_every` epochs, and with every snapshot."""
        interval = max(1, self.train.evaluate_every * self.epoch_steps)
        regular = {round(k * interval) for k in range(int(self.steps / interval) + 1)}
        return sorted(regular | set(self.schedule))

    @cached_property
    def parameters(self) -> int:
        """Trainable numbers of the network."""
        return sum(parameter.numel() for parameter in self._empty.parameters())

    @cached_property
    def snapshot_bytes(self) -> int:
        """Size of all parameters and buffers."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._empty.state_dict().values())

    @cached_property
    def _empty(self) -> nn.Module:
        # On the meta device a network has shapes and no numbers: building even a large one is free.
        with torch.device("meta"):
            return self.model.network(self.data.input_shape, self.data.outputs, self.data.codes)

    def config(self) -> dict[str, Any]:
        """The scientific config with every field at its value, for people and for MLflow."""
        parts: dict[str, Any] = {kind: _dump(getattr(self, kind)) for kind in _PARTS}
        return {**parts, "seed": self.seed}

    def record(self) -> dict[str, Any]:
        """The run as ``plan.json`` keeps it: all that workers, probes and reports need to know."""
        data = self.data
        return {
            "run": self.id,
            "name": self.name,
            "seed": self.seed,
            "varied": self.varied,
            "config": self.config(),
            "parameters": self.parameters,
            "steps": self.steps,
            "epoch_steps": self.epoch_steps,
            "batch_size": self.batch_size,
            "schedule": self.schedule,
            "evaluations": self.evaluations,
            "probes": [probe.id for probe in self.probes],
            "layers": list(layer_names(self.task.observed(self._empty))),
            "data": {
                "source": data.source,
                "fingerprint": data.fingerprint,
                **{name: len(split) for name, split in data.splits.items()},
                "input_shape": list(data.input_shape),
                "outputs": data.outputs,
                "codes": {part: list(counts) for part, counts in data.codes.items()},
            },
            "score": self.task.score_name,
            "observes": self.task.observes,
        }


_PARTS = ("task", "model", "optimiser", "train")
Parts = tuple[tasks.Task, models.Model, Optimiser, Train]


def identity(config: dict[str, Any], fingerprint: str) -> str:
    """The run id of a config as :meth:`Run.config` gives it. Guarded by a golden test.

    Fields at their default are left out, so that a new field with a neutral default changes no identity; who changes
    a default raises the entry's `version`.
    """
    classes = {kind: type(_part(kind, config[kind])) for kind in _PARTS}
    science = {kind: _part(kind, config[kind]).model_dump(mode="json", exclude_defaults=True) for kind in _PARTS}
    for kind, cls in classes.items():
        science[kind] |= {"name": config[kind].get("name"), "version": cls.version}  # pyright: ignore
    return _digest({**science, "seed": config["seed"], "data": fingerprint})


def _part(kind: str, data: dict[str, Any]) -> BaseModel:
    return Train.model_validate(data) if kind == "train" else named(kind, data, "config")


def restore(config: dict[str, Any]) -> Parts:
    """Task, model, optimiser and training of a config as :meth:`Run.config` gave it."""
    task, model, optimiser, train = (_part(kind, config[kind]) for kind in _PARTS)
    return task, model, optimiser, train  # pyright: ignore[reportReturnType]  the tables hold just these classes


def _dump(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


def expand(study: Study, source: str = "study") -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every combination of grid × zip as (varied fields, the study's parts with them set), in the file's order."""
    for kind in ("grid", "zip"):
        for key, values in getattr(study, kind).items():
            if not values:
                raise UserError(f"{source}: {kind}.{key}: empty; give at least one value or take the line out")
            if key.partition(".")[0] not in _PARTS:
                raise UserError(f"{source}: {kind}.{key}: only fields of {', '.join(_PARTS)} can be varied")
    if both := set(study.grid) & set(study.zip):
        raise UserError(f"{source}: {', '.join(sorted(both))} stands in grid and in zip; leave it in one of them")
    lengths = {key: len(values) for key, values in study.zip.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{source}: zip: lists of different length {lengths}; make them equal or use grid")
    rows = list(zip(*study.zip.values(), strict=True)) if study.zip else [()]
    expanded = []
    for point in itertools.product(*study.grid.values()):
        for row in rows:
            varied = {**dict(zip(study.grid, point, strict=True)), **dict(zip(study.zip, row, strict=True))}
            parts = {kind: copy.deepcopy(getattr(study, kind)) for kind in _PARTS}
            for key, value in varied.items():
                put(parts, key, value, source)
            expanded.append((varied, parts))
    return expanded


def validated(study: Study, source: str = "study") -> list[tuple[dict[str, Any], Parts]]:
    """Every combination of grid × zip as (varied fields, the configs with them set): all that holds without the data.

    Raises:
        UserError: A value that does not hold.
    """
    found: list[tuple[dict[str, Any], Parts]] = []
    for varied, parts in expand(study, source):
        task, model, optimiser = (named(kind, parts[kind], source) for kind in ("task", "model", "optimiser"))
        train = validate(Train, parts["train"], "train", source)
        varied = _as_read(varied, {"task": task, "model": model, "optimiser": optimiser, "train": train})
        found.append((varied, (task, model, optimiser, train)))  # pyright: ignore  the tables hold just these classes
    return found


def _as_read(varied: dict[str, Any], parts: dict[str, BaseModel]) -> dict[str, Any]:
    """The varied fields with the values the config made of them: YAML reads 1e-3, without a point, as text."""
    found = {}
    for key, value in varied.items():
        place: Any = {kind: _dump(part) for kind, part in parts.items()}
        for part in key.split("."):
            place = place[part]
        found[key] = value if isinstance(place, dict) else place
    return found


def make_runs(study: Study, data_dir: Path | None, source: str = "study") -> list[Run]:
    """All runs of a study with their data loaded, in the order of the file; identical ones stand once.

    Raises:
        UserError: A value that does not hold, data that are missing or damaged, a network that cannot be built for
            them or that the task cannot learn with, more points in a draw than data, variables that are not defined
            for the kernel or the task.
    """
    loaded: dict[str, tasks.TaskData] = {}
    runs: dict[str, Run] = {}
    for varied, (task, model, optimiser, train) in validated(study, source):
        key = task.model_dump_json()
        try:
            data = loaded[key] if key in loaded else loaded.setdefault(key, task.load(data_dir))
        except tasks.DataError as error:
            raise UserError(f"{source}: task {task.name}: {error}") from None  # pyright: ignore
        probes = tuple(
            Probe(split, study.probes.kernel, data.fingerprint, study.probes.variables) for split in study.probes.splits
        )
        for probe in probes:
            if (size := probe.kernel.size) > (there := len(getattr(data, probe.split))):
                raise UserError(
                    f"{source}: probes.kernel.size: got {size} points in a draw, but the {probe.split} split of "
                    f"{task.name} has {there}; lower the size or raise task.{probe.split}_size"  # pyright: ignore
                )
        _check_variables(study, data, f"{source}: probes.variables", task.name)  # pyright: ignore
        for seed in study.seed_list:
            run = Run(task, model, optimiser, train, seed, varied, data, probes, study)
            try:
                task.observed(runs.setdefault(run.id, run)._empty)  # it can be built for these data and this task
            except (models.ModelError, tasks.NetworkError) as error:
                raise UserError(f"{source}: model {model.name}: {error}") from None
    return list(runs.values())


def _check_variables(study: Study, data: tasks.TaskData, place: str, task: str) -> None:
    names = study.probes.variables
    try:
        # With one output per point all treatments are the same.
        check_treatment(names, study.probes.kernel.outputs if data.outputs > 1 else "full")
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None
    targets = data.train.targets
    if targets.is_floating_point() or targets.dim() != 1:
        for name in names:
            if "classes" in givens_of(name):
                raise UserError(
                    f"{place}: {name} needs a class for each point, which {task} does not have; leave it out"
                )
