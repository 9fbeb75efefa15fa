"""How each run of a plan stands: what a launch would do for it, told by reading alone; and what it clears to do it."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal

from tangentscope.pipeline.probing.settled import ledger_of, settled
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.faults import Fault, set_aside
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.outcome import State
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.snapshots import snapshot_fault

Kind = Literal["done", "train", "measure", "retrain", "ended"]
"""What `run` would do: nothing; train and measure; measure more on the snapshots that are there; train again what had
finished, since a snapshot that is wanted now was not taken or not kept; nothing before a `retry`."""


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    Args:
        run: Its id.
        name: Its name.
        kind: What `run` would do for it.
        unread: How many of its snapshots that are there are still to be read.
        faults: What is wrong with snapshots that would be read: they count as not there.
        clears: Files that stand in the way of training it.
    """

    run: str
    name: str
    kind: Kind
    unread: int
    faults: tuple[Fault, ...]
    clears: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether it is to be trained."""
        return self.kind in ("train", "retrain")


def standings(store: Store, again: Container[str] = (), training: bool = True) -> list[Standing]:
    """How each of a plan's runs stands, in its order; nothing is changed.

    Args:
        store: The study.
        again: Ids of failed and stopped runs that are to be taken up.
        training: False if none is to be trained, whatever it lacks.
    """
    storage, outcomes, rows, names = store.storage, store.outcomes(), store.recorded(), store.snapshot_names()
    unsettled = set(store.plan.run_of) - settled(store.plan, rows, names, outcomes)
    ledger = ledger_of(store.plan, rows, unsettled)
    found = []
    for planned in store.runs:
        run, present = planned.id, names[planned.id]
        if run in unsettled:
            for name in present:
                ledger.notice(Notice(run, name))
        steps = ledger.to_read(run) if run in unsettled else set[int]()
        faults = tuple(_faults(storage, run, [name for name in present if name.step in steps and not name.freed]))
        files = {fault.file for fault in faults}
        there = {name.step for name in present if not name.freed and run_files.snapshot(run, name) not in files}
        state = outcomes[run].state if run in outcomes else None
        # What was asked for further was there when it was asked for: nothing is trained for it.
        whole = steps & {*planned.schedule} <= there
        kind = _kind(state, whole, run in again, training, bool(steps & there))
        clears = _in_the_way(storage, run, kind, state, run in again)
        found.append(Standing(run, planned.name, kind, len(steps & there), faults, clears))
    return found


def clear(storage: Storage, found: Iterable[Standing]) -> None:
    """Set damaged snapshots aside and remove what stands in the way of training, for the launch that is to do it."""
    for standing in found:
        for fault in standing.faults:
            set_aside(storage, fault)
        for file in standing.clears:
            storage.remove(file)


def _kind(state: State | None, whole: bool, again: bool, training: bool, unread: bool) -> Kind:
    if (state == "finished" and whole) or not training:
        return "measure" if unread else "done"
    if state == "finished":
        return "retrain"
    return "ended" if state is not None and not again else "train"


def _in_the_way(storage: Storage, run: str, kind: Kind, state: State | None, again: bool) -> tuple[str, ...]:
    if kind not in ("train", "retrain"):
        return ()
    files = [run_files.stop(run)] if again else []
    if kind == "retrain":  # from its start: what training would resume from is its end
        files += run_files.checkpoints(storage, run)
    # Last: a launch that dies before it leaves a run that is to be trained again.
    return (*files, *([run_files.outcome(run)] if state is not None else []))


def _faults(storage: Storage, run: str, names: Iterable[SnapshotName]) -> Iterable[Fault]:
    """What is wrong with those of a run's snapshots that are not what their names say."""
    for name in names:
        try:
            fault = snapshot_fault(storage, run, name)
        except FileNotFoundError:  # freed
            continue
        if fault is not None:
            yield fault
