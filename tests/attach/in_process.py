"""A crew without Ray: what probers would measure is measured in this process, when the loop has ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import cloudpickle

from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.probing.networks import Subject
from tangentscope.pipeline.probing.settled import ledger_of
from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.system.errors import one_line


class InProcess:
    """Stands in for `tangentscope.pipeline.cluster.scheduler.Crew`."""

    latest: "InProcess"

    def __init__(self, launch: Launch, resources: Any, uri: str | None, wait: Callable[..., None], subject: Subject):
        self.launch, self.subject = launch, cloudpickle.loads(cloudpickle.dumps(subject))
        self.notices: list[Notice] = []
        self.hub = SimpleNamespace(notice=SimpleNamespace(remote=self.notice))
        self.probers = SimpleNamespace(check=lambda: None)
        self.ended: list[str] = []
        InProcess.latest = self

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)

    def drain(self, wait: Callable[[HubStatus], None]) -> None:
        store = Store(self.launch.storage)
        ledger, measurer = (
            ledger_of(store.plan, store.recorded()),
            Measurer(store.storage, store.plan, subject=self.subject),
        )
        for run in (run.id for run in store.runs if not run.at_rest):
            for name in run_files.current_snapshots(store.storage, run):
                ledger.notice(Notice(run, name))
        while (job := ledger.take("here")) is not None:
            wait(HubStatus(waiting=len(ledger.waiting), in_hand=1))
            try:
                rows = measurer.measure(job)
            except Exception as error:
                failed = ledger.give_back(job.ticket, one_line(error))
                tables.write_part(store.storage, "measurements", [row | {"recorded_at": 0.0} for row in failed], "here")
                continue
            for table, of_table in rows.items():
                tables.write_part(store.storage, table, of_table, "here")
            ledger.settle(job.ticket, rows["measurements"])

    def dismiss(self) -> None:
        self.ended.append("dismissed")

    def finish_tracking(self) -> tuple[None, None]:
        self.ended.append("tracked")
        return None, None

    def leave(self) -> None:
        self.ended.append("left")


@contextmanager
def no_ray(*args: Any) -> Iterator[bool]:
    """Stands in for `tangentscope.pipeline.cluster.joining.joined`."""
    yield False
