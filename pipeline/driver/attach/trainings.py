"""Several attached trainings in one output: which there are, whether another one may join or take a place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tangentscope.pipeline.config.naming import flat
from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.failures import retries
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.sealed import checksum
from tangentscope.pipeline.system.errors import UserError

_FOLDERS = ("snapshots", "checkpoints", "attempts", "replays")


@dataclass(frozen=True)
class Place:
    """A training's place in its output.

    plan: of all trainings there, this one among them.
    run: its record.
    kept: whether an attempt before has finished and is to be kept.
    replaced: ids of trainings whose place it takes; its own, if what is there of it no longer counts.
    """

    plan: dict[str, Any]
    run: Mapping[str, Any]
    kept: bool
    replaced: tuple[str, ...]


def place(storage: Storage, plan: dict[str, Any], state: Mapping[str, Tensor], overwrite: bool) -> Place:
    """Where a training with this plan of its own goes; nothing is written.

    Args:
        storage: The output.
        plan: As `tangentscope.pipeline.study.plan.attached_record` made it.
        state: The network's, now.
        overwrite: Whether it may take the place of a training of the same config and seed.

    Raises:
        UserError: The output holds a study, or trainings with which this one does not go together.
    """
    (run,) = plan["runs"]
    known = Store(storage).plan if storage.exists(layout.PLAN) else {"runs": []}  # refused if a newer version wrote it
    _check_kind(storage, known, plan)
    same = [each for each in known["runs"] if each["run"] == run["run"]]
    twins = [each for each in known["runs"] if _label(each) == _label(run)]
    if twins and not same and not overwrite:
        raise UserError(
            f"output {storage.uri} holds another training of the same config and seed, with other "
            f"{' and '.join(_differing(twins[0], run))}; pass config= or seed= to keep both, overwrite=True to replace "
            "it, or another out"
        )
    others = [each | {"at_rest": True} for each in known["runs"] if each not in same and each not in twins]
    if others:
        _check_alike(storage, known, plan)
    kept = bool(same) and not overwrite and _has_finished(storage, run["run"])
    if kept:
        _check_state(storage, run["run"], state)
    replaced = tuple({each["run"]: None for each in [*same, *twins]}) if overwrite else ()
    return Place(_joined(known, plan, others), run, kept, replaced)


def discard(storage: Storage, run: str) -> None:
    """Remove the files of a training whose place another one has taken."""
    for folder in _FOLDERS:
        for file in storage.list(f"runs/{run}/{folder}"):
            storage.remove(f"runs/{run}/{folder}/{file}")
    storage.remove(layout.outcome(run))


def _check_kind(storage: Storage, known: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    if any(run["config"]["task"]["name"] != "attached" for run in known["runs"]):
        raise UserError(f'output {storage.uri} holds the study "{known["study"]}"; give another out')
    if known.get("study", plan["study"]) != plan["study"]:
        raise UserError(
            f'output {storage.uri} holds trainings of the name "{known["study"]}", got name="{plan["study"]}"; give '
            "that name, or another out"
        )


def _check_alike(storage: Storage, known: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """What trainings side by side must have in common for their curves to stand in one figure."""
    for what, of in (("variables", _variables), ("splits", _splits), ("a horizontal axis", _axis)):
        there, here = of(known), of(plan)
        if there != here:
            raise UserError(
                f"output {storage.uri} holds trainings with {what} {there}, got {here}; give the same (epoch_steps= "
                "sets the axis), or another out"
            )


def _variables(plan: Mapping[str, Any]) -> list[str]:
    return sorted({name for probe in plan["probes"] for name in probe["variables"]})


def _splits(plan: Mapping[str, Any]) -> list[str]:
    return sorted({probe["split"] for probe in plan["probes"]})


def _axis(plan: Mapping[str, Any]) -> str:
    return plan["report"]["x"]


def _label(run: Mapping[str, Any]) -> tuple[Any, Any]:
    return run["seed"], run["config"].get("config")


def _differing(known: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """In what two trainings of one config and seed differ; at least one word."""
    at_first = True
    for word, of in _PARTS.items():
        if (there := of(known)) != (here := of(run)):
            at_first = False
            yield word if word == "data" else f"{word} ({there} there, {here} here)"
    if at_first:
        yield "shapes, trained parameters, output= or parameters="


_PARTS = {
    "data": lambda run: run["data"]["fingerprint"],
    "steps": lambda run: run["steps"],
    "epoch_steps": lambda run: run["epoch_steps"],
    "networks": lambda run: run["config"]["model"]["name"],
    "shapes": lambda run: f"{run['parameters']:,} parameters",
}


def _has_finished(storage: Storage, run: str) -> bool:
    return (storage.read_json(layout.outcome(run)) or {}).get("state") == "finished"


def _check_state(storage: Storage, run: str, state: Mapping[str, Tensor]) -> None:
    """A training that has finished is run again: refused if it begins with numbers that it did not come by."""
    present = checksum({name: tensor.cpu() for name, tensor in state.items()})
    taken = layout.current_snapshots(storage, run)
    if taken and present not in {name.checksum for name in taken}:
        raise UserError(
            f"output {storage.uri} holds a training of the same config and seed that has finished, and that began with "
            "other parameters (of another random seed?); pass config= or seed= to keep both, overwrite=True to replace "
            "it, or another out"
        )


def _joined(known: Mapping[str, Any], plan: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """A plan of all trainings, with the fields of their configs that differ as those that were varied."""
    runs = [*others, *plan["runs"]]
    ids = {probe for run in runs for probe in run["probes"]}
    ours = {probe["probe"] for probe in plan["probes"]}
    probes = [*(each for each in known.get("probes", ()) if each["probe"] in ids - ours), *plan["probes"]]
    configs = [dict(flat(run["config"].get("config", {}), "config.")) for run in runs]
    fields = list(dict.fromkeys(key for config in configs for key in config))
    varied = [key for key in fields if len({repr(config.get(key)) for config in configs}) > 1]
    runs = [
        run | {"varied": {key: config.get(key) for key in varied}} for run, config in zip(runs, configs, strict=True)
    ]
    at_rest = {each["run"] for each in others}
    retried = {
        key: {run: since for run, since in by_run.items() if run in at_rest} for key, by_run in retries(known).items()
    }
    return plan | {"varied": varied, "probes": probes, "runs": runs, **retried}
