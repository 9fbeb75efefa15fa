"""How studies that run at once wait for one another, with Ray and its actors left out."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from tangentscope.pipeline.cluster import connection, scheduler
from tangentscope.pipeline.driver import execution
from tangentscope.pipeline.driver.execution import Work, execute
from tangentscope.pipeline.store.status import HubStatus

PATIENCE = 30


def test_the_room_of_trained_workers_is_free_when_every_study_has_trained(monkeypatch: pytest.MonkeyPatch):
    """Until then a study that has trained leaves it to the others, whose workers may still want it."""
    others_drain, first_drains = threading.Event(), threading.Event()
    seen: list[tuple[str, bool]] = []

    class Crew:
        def __init__(self, launch: Any, *about: Any):
            self.study = launch

        def train(self, data_dir: str | None, training: Callable[[HubStatus], None]) -> list[str]:
            training(HubStatus(groups=1))
            assert self.study != "first" or others_drain.wait(PATIENCE)
            return []

        def drain(self, wait: Any, free: Callable[[], bool]) -> None:
            seen.append((self.study, free()))
            if self.study == "first":
                first_drains.set()
                return
            others_drain.set()
            assert first_drains.wait(PATIENCE)
            seen.append((self.study, free()))

        def finish_tracking(self) -> tuple[None, None]:
            return None, None

        def leave(self) -> None: ...

    monkeypatch.setattr(connection, "connected", lambda *about: nullcontext(lambda: None))
    monkeypatch.setattr(connection, "room_for", lambda resources: True)
    monkeypatch.setattr(scheduler, "Crew", Crew)
    for name in ("publish", "_check_all_ended"):
        monkeypatch.setattr(execution, name, lambda *about: None)
    train = SimpleNamespace(groups=1, together=False, workers=1)
    study: Any = SimpleNamespace(resources=SimpleNamespace(train=train))
    store: Any = SimpleNamespace(runs=[], storage=None)
    names: list[Any] = ["first", "second"]
    works = [Work(study, name, store, ["a run"], None, lambda: None) for name in names]
    assert execute(works, None, None, lambda work, status: None) == [(None, None)] * 2
    assert seen == [("second", False), ("first", True), ("second", True)]
