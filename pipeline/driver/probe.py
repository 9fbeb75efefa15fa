"""Measurements beyond a study's own: of other variables, kernels, points or steps, on snapshots that are kept.

What was asked for lies on storage beside the study and becomes part of its plan, so that whoever runs the study next
goes on with it. Nothing is trained for it, and nothing that was measured before is touched.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tangentscope.pipeline.config.features import MEASURED
from tangentscope.pipeline.driver.stages import stage_steps, stages_of
from tangentscope.pipeline.probing.points import draw_feature_points, draw_points
from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.further import FurtherRequest, requests
from tangentscope.pipeline.store.points import stored_points, write_points
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.study.checks import check_study
from tangentscope.pipeline.study.features import check_features
from tangentscope.pipeline.study.plan import named
from tangentscope.pipeline.study.runs import FeatureProbe, Probe, Run
from tangentscope.pipeline.study.spec import Probes, Study, validate
from tangentscope.pipeline.system.errors import UserError, nearest
from tangentscope.probes import FEATURE_VARIABLES, VARIABLES, givens_of
from tangentscope.tasks import Game, Split

STAGES = "stages"
_SOURCE = "probe"  # what messages call what was asked


@dataclass(frozen=True)
class Asked:
    """What to measure, and on which snapshots.

    Args:
        runs: Names or ids; all runs if none is given.
        data: ``train``, ``test`` or ``stages``: states of games that a run's own snapshots play.
        changes: Fields of the study's probes that differ: variables (of kernels and of features), parts, kernel,
            features.
        steps: Single ones and ``first:last`` or ``first:last:every``; the study's schedule if none is given.
        stages: Steps of the snapshots that play, see `tangentscope.pipeline.driver.stages`.
        games: That each of them plays.
        states: Of all stages.
    """

    runs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    stages: tuple[int, ...] = ()
    games: int = 30
    states: int = 1200


def ask(storage: Storage, study: Study, runs: Sequence[Run], asked: Asked, now: float) -> None:
    """Put what is asked for on storage, with its points; the plan is to be made anew.

    Raises:
        UserError: A run or step that is not there, a variable that cannot be had; nothing was put on storage.
    """
    store = Store(storage)
    names = {run.id for run in named(store.runs, asked.runs)}
    chosen = [run for run in runs if not names or run.id in names]
    if STAGES not in asked.data and (asked.stages, asked.games, asked.states) != ((), Asked.games, Asked.states):
        raise UserError(f"{_SOURCE}: --stages, --games and --states are of --data {STAGES}; add it, or leave them out")
    study = _changed(study, asked)
    for task, run in {run.task: run for run in chosen}.items():
        check_study(study, task, run.train, run.data, _SOURCE)
        if STAGES in asked.data and not isinstance(task, Game):
            raise UserError(f"{_SOURCE}: --data {STAGES}: got the task {task.name}, expected a game")  # pyright: ignore
    for run in {(run.task, run.model): run for run in chosen}.values():
        check_features(study.probes.features, run.task, run.model, run.data, _SOURCE)
    steps = {run.id: _kept(store, run, asked.steps) for run in chosen}
    _check_comparisons(store, study, chosen, steps)
    drawn: dict[str, tuple[Probe | FeatureProbe, dict[str, Tensor]]] = {}  # points by probe
    number = 1 + len(storage.list(layout.FURTHER))
    requested: list[FurtherRequest] = []
    splits = (asked.data or study.probes.splits) if study.probes.variables else ()
    for run, split in itertools.product(chosen, splits):
        told, fingerprint, points = _points(store, run, split, study, asked)
        for part in study.probes.parts or (None,):
            probe = Probe(split, study.probes.kernel, fingerprint, study.probes.variables, part)
            if split == STAGES:
                _only_one(store, run, probe)
            if probe.id not in drawn and not isinstance(stored_points(storage, probe.id), dict):
                drawn[probe.id] = probe, draw_points(points(), probe.kernel)
            requested.append(FurtherRequest(probe.planned(), run.id, tuple(steps[run.id]), told, now, number))
    features = study.probes.features
    for run, probe in [(run, FeatureProbe(features, run.data.fingerprint)) for run in chosen] if features else ():
        if probe.id not in drawn and not isinstance(stored_points(storage, probe.id), dict):
            drawn[probe.id] = probe, draw_feature_points(run.data.train, run.data.test, probe.points)
        requested.append(FurtherRequest(probe.planned(), run.id, tuple(steps[run.id]), None, now, number))
    for probe, points in drawn.values():
        write_points(storage, probe.planned(), points)
    for request in requested:
        if not storage.exists(request.file):
            storage.write_json(request.file, request.to_json())


def _changed(study: Study, asked: Asked) -> Study:
    probes, changes = study.probes.model_dump(), dict(asked.changes)
    kernel = probes["kernel"] | changes.pop("kernel", {})
    features = (probes["features"] or {}) | changes.pop("features", {})
    if names := changes.pop("variables", ()):
        for name in names:
            if name not in MEASURED:
                raise UserError(f'{_SOURCE}: variable "{name}" unknown; {nearest(name, MEASURED)}')
        changes["variables"] = tuple(name for name in names if name in VARIABLES)
        features["variables"] = tuple(name for name in names if name in FEATURE_VARIABLES)
    probes |= {**changes, "kernel": kernel, "splits": [s for s in asked.data if s != STAGES] or ["train"]}
    probes |= {"features": features if features.get("variables") else None}
    probes |= {} if asked.data else {"splits": study.probes.splits}
    return study.model_copy(update={"probes": validate(Probes, probes, "", _SOURCE)})


def _points(
    store: Store, run: Run, split: str, study: Study, asked: Asked
) -> tuple[str | None, str, Callable[[], Split]]:
    """What to say of the points' source, if it is not the run's data; their fingerprint; and what gets them."""
    if split != STAGES:
        return None, run.data.fingerprint, lambda: getattr(run.data, split)
    if asked.games < 1:
        raise UserError(f"{_SOURCE}: --games: got {asked.games}, expected at least 1")
    steps = stage_steps(store, run, asked.stages)
    states = asked.states // len(steps) * len(steps)
    kernel = study.probes.kernel
    if kernel.draws * kernel.size > states:
        raise UserError(
            f"{_SOURCE}: got {kernel.draws} draws of {kernel.size} states, but {states} are to be stored; raise "
            "--states, or lower --draws or --size"
        )
    told = f"{states} states of {asked.games * len(steps)} games, as many by the network of each of the steps {steps}"
    fingerprint, points = stages_of(store, run, steps, states, asked.games)
    return told, fingerprint, functools.cache(points)  # all parts are of the same states


def _kept(store: Store, run: Run, asked: Sequence[str]) -> list[int]:
    """The steps that are asked for and whose snapshots are kept; of a range or a schedule those there are."""
    there = {name.step for name in store.kept(run.id)}
    if not asked:
        found = there & set(run.schedule)
    else:
        found = set()
        for each in asked:
            try:
                bounds = [int(part) for part in each.split(":")]
            except ValueError:
                bounds = []
            if len(bounds) not in (1, 2, 3) or (len(bounds) == 3 and bounds[2] < 1):
                raise UserError(f'{_SOURCE}: --steps: got "{each}", expected a step, FIRST:LAST or FIRST:LAST:EVERY')
            if len(bounds) == 1 and bounds[0] not in there:
                raise UserError(f"{_SOURCE}: --steps: run {run.name} has no snapshot of step {each} that is kept")
            first, last, every = (*bounds, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
            found |= there & set(range(first, last + 1, every))
    if not found:
        told = f"those of {len(there)} other steps are" if there else "none is; keep them with probes.keep: all"
        raise UserError(f"{_SOURCE}: run {run.name}: no snapshot of these steps is kept ({told})")
    return sorted(found)


def _check_comparisons(store: Store, study: Study, runs: Sequence[Run], steps: Mapping[str, Sequence[int]]) -> None:
    """Refuse variables that compare with a snapshot that there is not."""
    for name in study.probes.variables:
        if "previous_kernel" in givens_of(name) and any(set(steps[run.id]) - set(run.schedule) for run in runs):
            raise UserError(
                f"{_SOURCE}: {name} compares with the scheduled step before, and some of these steps are not "
                "scheduled; leave out --steps, or the variable"
            )
        for run in runs if "initial_kernel" in givens_of(name) else ():
            if not any(snapshot.step == 0 for snapshot in store.kept(run.id)):
                raise UserError(
                    f"{_SOURCE}: {name} compares with the snapshot of step 0, which run {run.name} has not kept; "
                    "leave the variable out"
                )


def _only_one(store: Store, run: Run, probe: Probe) -> None:
    """Refuse a second set of states of the same run: curves of both would stand under one name."""
    mine = probe.planned()
    for other in (request.probe for request in requests(store.storage) if request.run == run.id):
        if other.way == mine.way and other.id != mine.id:
            raise UserError(
                f"{_SOURCE}: run {run.name} has kernels like these of other states of its stages; give the same "
                "--stages, --games and --states again, or another --seed"
            )
