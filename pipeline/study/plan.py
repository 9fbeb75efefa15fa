"""Making plans: of a study's runs, or of a training in a loop of the user's own."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from torch import Tensor, nn

from tangentscope.pipeline.config.features import MEASURED
from tangentscope.pipeline.probing.given import Given, constants_of
from tangentscope.pipeline.store.further import FurtherRequest
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.planned import ATTACHED, FurtherSteps, PlannedData, PlannedRun
from tangentscope.pipeline.store.sealed import checksum
from tangentscope.pipeline.store.snapshots import plain_state
from tangentscope.pipeline.study.runs import Probe, Run
from tangentscope.pipeline.study.spec import Probes, Report, Study
from tangentscope.pipeline.system.errors import UserError, nearest
from tangentscope.probes import VARIABLES, givens_of, layer_names


@dataclass(frozen=True)
class Training:
    """What a user says of a training in a loop of their own.

    module: the network, without what may be wrapped around it.
    epoch_steps: updates in an epoch, None where epochs mean nothing.
    config: whatever else tells it from other trainings, as JSON can hold it.
    further: more that its identity hangs on; what is as usual is not in it, so that ids stay what they were.
    """

    name: str
    module: nn.Module
    steps: int
    epoch_steps: int | None
    seed: int
    config: Mapping[str, Any]
    further: Mapping[str, Any]

    @property
    def run_name(self) -> str:
        """The config's plain values and the seed, e.g. ``lr=0.1 seed=1``; the name where there is neither."""
        plain = [f"{key}={value}" for key, value in self.config.items() if isinstance(value, str | int | float)]
        words = [*plain, *([f"seed={self.seed}"] if plain or self.seed else [])]
        return " ".join(words)[:_NAME_LENGTH] or self.name


_EARLIER = ("initial", "previous")  # networks of its run with which a variable can compare
_NAME_LENGTH = 100


def study_plan(
    study: Study,
    runs: Sequence[Run],
    launch: int,
    before: Plan | None = None,
    again: Iterable[str] = (),
    further: Sequence[FurtherRequest] = (),
) -> Plan:
    """The plan of a study.

    Args:
        study: As it was resolved.
        runs: Of it.
        launch: That writes it.
        before: The store's last plan, whose retries hold on.
        again: Ids of runs of which what has failed is to be taken up again.
        further: What was asked for beyond it.
    """
    ours = [request for request in further if request.run in {run.id for run in runs}]
    beyond: dict[str, tuple[FurtherSteps, ...]] = {}
    for request in ours:
        steps = FurtherSteps(request.probe.id, request.probe.variables, request.steps)
        beyond[request.run] = (*beyond.get(request.run, ()), steps)
    probes = {probe.id: probe.planned() for run in runs for probe in run.every_probe}
    measured = (*probes.values(), *(request.probe for request in ours))
    names = [name for probe in measured for name in probe.variables]
    return Plan(
        study=study.name,
        launch=launch,
        varied=(*study.grid, *study.zip),
        report=study.report.model_dump(mode="json"),
        keep=study.probes.keep,
        runs=tuple(run.planned(beyond.get(run.id, ())) for run in runs),
        probes=tuple(probes.values()),
        further=tuple(replace(request.probe, source=request.source) for request in ours),
        retried={**(before.retried if before else {}), **dict.fromkeys(sorted(again), launch)},
        retried_at=before.retried_at if before else {},
        **_of_variables(names),
    )


def named(runs: Sequence[PlannedRun], names: Sequence[str]) -> list[PlannedRun]:
    """The runs that have these names or ids, in the order they were named.

    Raises:
        UserError: A name that no run has.
    """
    by_name = {name: run for run in runs for name in (run.name, run.id)}
    for name in names:
        if name not in by_name:
            raise UserError(f'run "{name}" unknown; {nearest(name, (run.name for run in runs))}')
    return [by_name[name] for name in names]


def attached_plan(training: Training, splits: Mapping[str, Given], probes: Probes, launch: int) -> Plan:
    """The plan of one training in a loop of the user's own.

    Its id tells trainings apart by name, shapes, length, data, seed and config, and by what the kernel is of.
    """
    axis = "epoch" if training.epoch_steps else "step"
    fingerprint = _fingerprint(splits)
    kinds = [Probe(split, probes.kernel, fingerprint, probes.variables) for split in splits]
    sizes = {split: len(points) for split, points in splits.items()}
    data = PlannedData("points given to attach()", fingerprint, sizes)
    return Plan(
        study=training.name,
        launch=launch,
        varied=(),
        report=Report(figures=("curves",), x=axis).model_dump(mode="json"),
        keep=probes.keep,
        runs=(_attached_run(training, data, probes, kinds),),
        probes=tuple(kind.planned() for kind in kinds),
        **_of_variables(probes.variables),
    )


def _attached_run(training: Training, data: PlannedData, probes: Probes, kinds: Sequence[Probe]) -> PlannedRun:
    module, steps, epoch_steps = training.module, training.steps, training.epoch_steps or 1
    shapes = {key: [str(tensor.dtype), *tensor.shape] for key, tensor in plain_state(module).items()}
    identity = {"attached": training.name, "state": shapes, "steps": steps, "epoch_steps": epoch_steps}
    identity |= {"data": data.fingerprint, **training.further}
    parts = {"task": ATTACHED, "model": type(module).__name__, "optimiser": ATTACHED}
    config: dict[str, Any] = {kind: {"name": part} for kind, part in parts.items()} | {"seed": training.seed}
    schedule = tuple(probes.schedule.steps(steps, epoch_steps))
    return PlannedRun(
        id=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12],
        name=training.run_name,
        seed=training.seed,
        varied={},
        config=config | ({"config": dict(training.config)} if training.config else {}),
        steps=steps,
        epoch_steps=epoch_steps,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        batch_size=1,
        schedule=schedule,
        snapshots=schedule,
        evaluations=(),
        probes=tuple(kind.id for kind in kinds),
        layers=tuple(layer_names(module)),
        data=data,
        score="score",
    )


class _OfVariables(TypedDict):
    versions: dict[str, int]
    compares: dict[str, tuple[str, ...]]


def _of_variables(variables: Sequence[str]) -> _OfVariables:
    """What a plan says of variables: their versions, and with which earlier networks they compare."""
    of_kernels = [name for name in variables if name in VARIABLES]
    compares = {name: tuple(way for way in _EARLIER if f"{way}_kernel" in givens_of(name)) for name in of_kernels}
    return {
        "versions": {name: MEASURED[name].version for name in variables},
        "compares": {name: ways for name, ways in compares.items() if ways},
    }


def _fingerprint(splits: Mapping[str, Given]) -> str:
    tensors: dict[str, Tensor] = {}
    constants: list[str] = []
    for name, split in splits.items():
        tensors |= {f"{name}.{part}": tensor.cpu() for part, tensor in split.tensors().items()}
        constants += constants_of(split.inputs)
    digest = checksum(tensors)
    return digest if not constants else hashlib.sha256(" ".join([digest, *constants]).encode()).hexdigest()[:16]
