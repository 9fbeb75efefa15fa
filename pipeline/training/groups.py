"""Which runs a worker group takes at once: one, or the seeds of one small network, which may train together."""

import json
from collections import defaultdict
from collections.abc import Sequence

from tangentscope.pipeline.store.planned import PlannedRun

Unit = tuple[str, ...]
"""Ids of runs that one worker group trains, together or one after another."""

_MOST_BYTES = 32 * 2**20  # of parameters in one unit: what is larger than a cache gains nothing from being stacked
_MOST_RUNS = 32
_BYTES = 4  # of a parameter


def pack(runs: Sequence[PlannedRun], groups: int, together: bool) -> list[Unit]:
    """Runs in units, longest first, and in one unit what differs by its seed only.

    Args:
        runs: Of the plan.
        groups: How many worker groups there are: each is to have some of the seeds.
        together: Whether runs may share a unit at all.
    """
    alike: dict[str, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        science = {key: value for key, value in run.config.items() if key != "seed"}
        about = [science, run.data.fingerprint, run.schedule, run.steps]
        shared = together and "algorithm" not in run.config.get("train", {})  # games have no batches in common
        alike[json.dumps(about, sort_keys=True) if shared else run.id].append(run)
    units: list[list[PlannedRun]] = []
    for members in alike.values():
        most = max(1, min(_MOST_RUNS, _MOST_BYTES // (_BYTES * max(1, members[0].parameters))))
        count = max(-(-len(members) // most), min(groups, len(members)))
        units += [members[k::count] for k in range(count)]
    return [tuple(run.id for run in unit) for unit in sorted(units, key=_length, reverse=True)]


def _length(unit: Sequence[PlannedRun]) -> int:
    return sum(run.parameters * run.steps * run.batch_size for run in unit)
