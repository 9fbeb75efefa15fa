"""Several attached trainings in one output: which there are, whether another one may join or take a place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tangentscope.pipeline.config.naming import flat
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.sealed import checksum
from tangentscope.pipeline.system.errors import UserError


@dataclass(frozen=True)
class Place:
    """A training's place in its output.

    plan: of all trainings there, this one among them.
    run: this training.
    kept: whether an attempt before has finished and is to be kept.
    replaced: ids of trainings whose place it takes; its own, if what is there of it no longer counts.
    """

    plan: Plan
    run: PlannedRun
    kept: bool
    replaced: tuple[str, ...]


def place(storage: Storage, plan: Plan, state: Mapping[str, Tensor], overwrite: bool) -> Place:
    """Where a training with this plan of its own goes; nothing is written.

    Args:
        storage: The output.
        plan: As `tangentscope.pipeline.study.plan.attached_plan` made it.
        state: The network's, now.
        overwrite: Whether it may take the place of a training of the same config and seed.

    Raises:
        UserError: The output holds a study, or trainings with which this one does not go together.
    """
    (run,) = plan.runs
    before = Store(storage).plan if storage.exists(layout.PLAN) else None  # refused if a newer version wrote it
    runs = before.runs if before else ()
    _check_kind(storage, before, plan)
    same = [each for each in runs if each.id == run.id]
    twins = [each for each in runs if _label(each) == _label(run)]
    if twins and not same and not overwrite:
        raise UserError(
            f"output {storage.uri} holds another training of the same config and seed, with other "
            f"{' and '.join(_differing(twins[0], run))}; pass config= or seed= to keep both, overwrite=True to replace "
            "it, or another out"
        )
    others = [replace(each, at_rest=True) for each in runs if each not in same and each not in twins]
    if before and others:
        _check_alike(storage, before, plan)
    kept = bool(same) and not overwrite and _has_finished(storage, run.id)
    if kept:
        _check_state(storage, run.id, state)
    replaced = tuple({each.id: None for each in [*same, *twins]}) if overwrite else ()
    return Place(_joined(before, plan, others), run, kept, replaced)


def _check_kind(storage: Storage, before: Plan | None, plan: Plan) -> None:
    if before is None:
        return
    if not all(run.is_attached for run in before.runs):
        raise UserError(f'output {storage.uri} holds the study "{before.study}"; give another out')
    if before.study != plan.study:
        raise UserError(
            f'output {storage.uri} holds trainings of the name "{before.study}", got name="{plan.study}"; give '
            "that name, or another out"
        )


def _check_alike(storage: Storage, before: Plan, plan: Plan) -> None:
    """What trainings side by side must have in common for their curves to stand in one figure."""
    for what, of in (("variables", _variables), ("splits", _splits), ("a horizontal axis", _axis)):
        there, here = of(before), of(plan)
        if there != here:
            raise UserError(
                f"output {storage.uri} holds trainings with {what} {there}, got {here}; give the same (epoch_steps= "
                "sets the axis), or another out"
            )


def _variables(plan: Plan) -> list[str]:
    return sorted({name for probe in plan.probes for name in probe.variables})


def _splits(plan: Plan) -> list[str]:
    return sorted({probe.split for probe in plan.probes})


def _axis(plan: Plan) -> str:
    return (plan.report or {})["x"]


def _label(run: PlannedRun) -> tuple[Any, Any]:
    return run.seed, run.config.get("config")


def _differing(earlier: PlannedRun, run: PlannedRun) -> Iterator[str]:
    """In what two trainings of one config and seed differ; at least one word."""
    at_first = True
    for word, of in _PARTS.items():
        if (there := of(earlier)) != (here := of(run)):
            at_first = False
            yield word if word == "data" else f"{word} ({there} there, {here} here)"
    if at_first:
        yield "shapes, trained parameters, output= or parameters="


_PARTS: dict[str, Callable[[PlannedRun], object]] = {
    "data": lambda run: run.data.fingerprint,
    "steps": lambda run: run.steps,
    "epoch_steps": lambda run: run.epoch_steps,
    "networks": lambda run: run.model,
    "shapes": lambda run: f"{run.parameters:,} parameters",
}


def _has_finished(storage: Storage, run: str) -> bool:
    outcome = run_files.read_outcome(storage, run)
    return outcome is not None and outcome.state == "finished"


def _check_state(storage: Storage, run: str, state: Mapping[str, Tensor]) -> None:
    """A training that has finished is run again: refused if it begins with numbers that it did not come by."""
    present = checksum({name: tensor.cpu() for name, tensor in state.items()})
    taken = run_files.current_snapshots(storage, run)
    if taken and present not in {name.checksum for name in taken}:
        raise UserError(
            f"output {storage.uri} holds a training of the same config and seed that has finished, and that began with "
            "other parameters (of another random seed?); pass config= or seed= to keep both, overwrite=True to replace "
            "it, or another out"
        )


def _joined(before: Plan | None, plan: Plan, others: Sequence[PlannedRun]) -> Plan:
    """A plan of all trainings, with the fields of their configs that differ as those that were varied."""
    if before is None:
        return plan
    runs = [*others, *plan.runs]
    ids = {probe for run in runs for probe in run.probes} - {probe.id for probe in plan.probes}
    probes = (*(each for each in before.probes if each.id in ids), *plan.probes)
    configs = [dict(flat(run.config.get("config", {}), "config.")) for run in runs]
    fields = list(dict.fromkeys(key for config in configs for key in config))
    varied = [key for key in fields if len({repr(config.get(key)) for config in configs}) > 1]
    at_rest = {each.id for each in others}
    return replace(
        plan,
        varied=tuple(varied),
        probes=probes,
        runs=tuple(
            replace(run, varied={key: config.get(key) for key in varied})
            for run, config in zip(runs, configs, strict=True)
        ),
        retried={run: since for run, since in before.retried.items() if run in at_rest},
        retried_at={run: since for run, since in before.retried_at.items() if run in at_rest},
    )
