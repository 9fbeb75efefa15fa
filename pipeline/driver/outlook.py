"""What a launch would do to an output that holds something already: told before it starts, and by `plan`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tangentscope.pipeline.config.naming import flat
from tangentscope.pipeline.driver.standing import Kind, standings
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.further import requests
from tangentscope.pipeline.store.integrity import listed
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import Run
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import UserError

_MOST_FIELDS = 3


@dataclass(frozen=True)
class Outlook:
    """Names of a study's runs by what `run` would do for them.

    Args:
        done: Nothing.
        train: Train and measure them.
        measure: Measure more on the snapshots that are there.
        retrain: Train them again: they had finished, and a snapshot that is wanted now was not taken or not kept.
        ended: Nothing before a `retry`: they have failed or were stopped.
    """

    done: list[str]
    train: list[str]
    measure: list[str]
    retrain: list[str]
    ended: list[str]

    def lines(self) -> Iterator[str]:
        """Their counts, and which runs would be trained again."""
        counts = {"done": self.done, "to train": self.train, "to measure": self.measure, "to retrain": self.retrain}
        counts |= {"failed or stopped, to `retry`": self.ended} if self.ended else {}
        yield ", ".join(f"{len(names)} {what}" for what, names in counts.items())
        yield from retrained(self.retrain)


def retrained(names: Sequence[str]) -> Iterator[str]:
    """What to say of runs that had finished and are to be trained again; nothing if there are none."""
    if names:
        yield f"retrain {listed(names)}: a snapshot that is wanted now was not taken or not kept"


def outlook(storage: Storage, study: Study, runs: Sequence[Run]) -> Outlook:
    """What `run` would do for each run of a study in this output, which has a plan.

    Raises:
        UserError: Another study lies there, or something that is damaged.
    """
    check_held(storage, study)
    store = Store(storage)
    store.plan = study_plan(study, runs, store.plan.launch, store.plan, further=requests(storage))
    found = standings(store)
    return Outlook(**{kind: [each.name for each in found if each.kind == kind] for kind in get_args(Kind)})


def check_held(storage: Storage, study: Study) -> None:
    """Raise UserError if an output holds another study, or one that a newer version wrote."""
    held = Store(storage).name if storage.exists(layout.PLAN) else study.name
    if held != study.name:
        raise UserError(f'output {storage.uri} holds the study "{held}", not "{study.name}"; give another --out')


def departing(storage: Storage, study: Study, runs: Sequence[Run]) -> str | None:
    """What to say of runs that an output holds and the study no longer has: which, and what has changed; else None."""
    if not storage.exists(layout.PLAN):
        return None
    ours = {run.id for run in runs}
    leaving = [run for run in Store(storage).runs if run.id not in ours]
    begun = [run for run in leaving if run_files.has_begun(storage, run.id)]
    if not begun:
        return None
    before, after = (_values(configs) for configs in ([run.config for run in begun], [run.config() for run in runs]))
    changed = [
        f"{field}: {_told(before.get(field))} before, {_told(after.get(field))} now"
        for field in {**before, **after}
        if not {*after.get(field, ())} >= {*before.get(field, ())}
    ]
    # Early versions did not say which data a run had.
    if len({run.data.fingerprint for run in runs} | {run.data.fingerprint for run in begun} - {""}) > 1:
        changed.append("data")
    why = "; ".join(changed[:_MOST_FIELDS]) + f" and {len(changed) - _MOST_FIELDS} more" * bool(changed[_MOST_FIELDS:])
    names = listed([run.name for run in begun])
    return (
        f"{storage.uri} holds runs that the study no longer has ({names}){f'; {why}' if why else ''}: they stay on "
        "storage and are shown no more; give another --out to keep both in view"
    )


def _values(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The values that each field of some configs has, as text."""
    found: dict[str, list[str]] = {}
    for config in configs:
        for field, value in flat(config):
            found.setdefault(field, []).append(str(value))
    return {field: list(dict.fromkeys(values)) for field, values in found.items()}


def _told(values: Sequence[str] | None) -> str:
    return listed(values) if values else "none"
