"""Who follows workers that have trained: how many, when, and what happens to what a lost one had in hand. No Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tangentscope.pipeline.cluster import probers
from tangentscope.pipeline.cluster.probers import Probers
from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.probing.networks import Planned
from tangentscope.pipeline.store.files import Storage

RESOURCES = {"train": {"groups": 3}, "probe": {"actors": 1, "successors": 2}}


class Cluster:
    """What `Probers` ask of Ray: actors that only note that they were started, and a number of free CPUs."""

    def __init__(self) -> None:
        self.free, self.started, self.ended = 8.0, list[str](), list[str]()
        self.exceptions = SimpleNamespace(RayError=RuntimeError)

    def remote(self, cls: type) -> Any:
        def start(storage: Storage, name: str, *others: Any) -> Any:
            self.started.append(name)
            ready = SimpleNamespace(remote=lambda: name)
            return SimpleNamespace(work=SimpleNamespace(remote=lambda hub: name), __ray_ready__=ready)

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=start))

    def wait(self, refs: list[str], timeout: float) -> tuple[list[str], list[str]]:
        done = [ref for ref in refs if ref in self.ended or ref == "reserved"]
        return done, [ref for ref in refs if ref not in done]

    def available_resources(self) -> dict[str, float]:
        return {"CPU": self.free}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(probers, "ray", found)
    monkeypatch.setattr(probers, "placement_group", lambda *_, **__: SimpleNamespace(ready=lambda: "reserved"))
    monkeypatch.setattr(probers, "PlacementGroupSchedulingStrategy", lambda *_, **__: None)
    return found


def test_one_at_a_time_follows_while_it_is_worth_its_start(cluster: Cluster, tmp_path: Path):
    hellos: list[str] = []
    hub = SimpleNamespace(hello=SimpleNamespace(remote=lambda name, life: hellos.append(name)))
    ours = Probers(Storage.at(tmp_path), Resources.model_validate(RESOURCES), Planned(), lambda status: None)
    ours.begin(hub)
    assert cluster.started == ["prober-0"]
    ours.follow(hub, waiting=50, backlog=19.0)
    ours.follow(hub, waiting=0, backlog=100.0)
    cluster.free = 0.0
    ours.follow(hub, waiting=50, backlog=100.0)
    assert cluster.started == ["prober-0"], "too little to do, nothing to take, no room"

    cluster.free = 8.0
    ours.follow(hub, waiting=50, backlog=39.0)
    ours.follow(hub, waiting=50, backlog=39.0)  # less than 20 s for each of two
    assert cluster.started == ["prober-0", "prober-1"]
    ours.follow(hub, waiting=1, backlog=100.0)  # the one that follows will take it
    assert cluster.started == ["prober-0", "prober-1"]
    ours.follow(hub, waiting=50, backlog=100.0)
    ours.follow(hub, waiting=50, backlog=100.0)
    assert cluster.started == ["prober-0", "prober-1", "prober-2"], "and no more than `successors`"

    assert hellos == []
    cluster.ended = ["prober-1"]
    for _ in range(2):
        ours.follow(hub, waiting=50, backlog=100.0)
    assert hellos == ["prober-1"], "what it had in hand goes back, once"
    assert len(cluster.started) == 3, "nobody starts it again"
