"""The queue of a launch: units of runs, dealt to the worker groups that ask for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tangentscope.pipeline.store import layout, records, run_files
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.training.groups import Unit


@dataclass(frozen=True)
class Dealer:
    """Deals units in their order. All it knows is on storage, so that another can go on where it ended.

    Args:
        launch: The right to publish.
        units: What is to be trained, the same for every dealer of a launch.
    """

    launch: Launch
    units: Sequence[Unit]

    def deal(self, group: int) -> Unit:
        """What a group is to train now; empty when there is nothing more.

        A group that asks again, maybe after its death, has what it held last until every run of that has an outcome.
        """
        storage, file = self.launch.storage, layout.dealt(self.launch.epoch)
        dealt: dict[str, Any] = records.read(storage, file, "dealt", {"count": 0, "held": {}})
        held = dealt["held"].get(str(group))
        if held is not None and not all(storage.exists(run_files.outcome(run)) for run in self.units[held]):
            return self.units[held]
        if dealt["count"] == len(self.units):
            return ()
        dealt["held"][str(group)] = dealt["count"]
        dealt["count"] += 1
        self.launch.check()
        storage.write_json(file, dealt)
        return self.units[dealt["count"] - 1]
