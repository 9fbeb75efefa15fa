"""A Ray is started ahead where a launch will certainly train something, by a thread that stays, and is always ended."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tangentscope.pipeline.cluster import ahead, own_ray
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError

Study = tuple[Storage, dict[str, Any]]

ENDS = [("finished", False, False), ("failed", False, True), ("stopped", False, True), (None, True, True)]

_will_train = ahead._will_train  # as it is before the tests' own conftest keeps it from starting any


def test_a_place_without_a_plan_will_be_trained_into(tmp_path: Path):
    assert _will_train(str(tmp_path / "new"), False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("state", "first", "again"), ENDS)
def test_one_with_a_plan_where_a_run_has_not_ended(planned: Study, state: str | None, first: bool, again: bool):
    storage, plan = planned
    for run in plan["runs"]:
        storage.write_json(run_files.outcome(run["run"]), {"state": "finished"})
    last = run_files.outcome(plan["runs"][-1]["run"])
    storage.write_json(last, {"state": state}) if state else storage.remove(last)
    assert _will_train(storage.uri, again=False) == first
    assert _will_train(storage.uri, again=True) == again


@pytest.mark.parametrize("plan", [b"{", b"[]", b"null", b'{"runs": 3}', b'{"runs": [{}]}'])
def test_a_damaged_plan_is_left_to_the_command(tmp_path: Path, plan: bytes):
    Storage.at(tmp_path).write(layout.PLAN, plan)
    assert not _will_train(str(tmp_path), False)


def test_an_object_store_is_not_asked():
    assert not _will_train("s3://bucket/study", False)
    assert not _will_train("s3://key@bucket/study", False)  # which the command itself refuses


@pytest.mark.parametrize(
    ("text", "overrides", "place"),
    [
        ("name: mine\ntask: {name: mnist}\n", (), "results/mine"),
        ("task: {name: mnist}\nname: 'mine'  # so\n", (), "results/mine"),
        ("name: mine\n", ("train.epochs=2", "name=other"), "results/other"),
        ("task:\n  name: mnist\n", (), "results/study"),
    ],
)
def test_where_the_results_go_is_read_from_the_file(text: str, overrides: tuple[str, ...], place: str, tmp_path: Path):
    (tmp_path / "study.yaml").write_text(text)
    assert ahead.place_of(tmp_path / "study.yaml", overrides) == place
    assert ahead.place_of(tmp_path / "study.yaml", overrides, "there") == place.replace("results", "there")


class Fake:
    """Stands for Ray: what was done to it, and the thread that its processes would end with."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.release, self.error = threading.Event(), None
        self.thread: threading.Thread | None = None

    def start(self, cpus: int) -> None:
        self.thread = threading.current_thread()
        assert self.release.wait(30)
        if self.error is not None:
            raise self.error
        self.done.append("started")

    def end(self) -> None:
        assert self.thread is not None
        assert self.thread.is_alive()
        self.done.append("ended")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake()
    monkeypatch.setattr(own_ray, "start", fake.start)
    monkeypatch.setattr(own_ray, "end", fake.end)
    monkeypatch.setattr(ahead, "_will_train", lambda out, again: True)
    yield fake
    fake.release.set()
    ahead.end()


def test_who_takes_it_waits_for_it_and_ends_it(ray: Fake):
    ahead.begin("anywhere")
    taken = ahead.take(1)
    assert taken is not None
    assert not ahead.begun()
    ray.release.set()
    taken.wait()
    assert ray.done == ["started"]
    taken.end()
    ahead.end()
    assert ray.done == ["started", "ended"]
    assert ray.thread is not None
    ray.thread.join(30)
    assert not ray.thread.is_alive()


def test_what_nobody_takes_is_ended(ray: Fake):
    ahead.begin("anywhere")
    ahead.begin("anywhere else")
    ray.release.set()
    ahead.end()
    assert ray.done == ["started", "ended"]


def test_too_small_a_one_is_not_taken(ray: Fake):
    ahead.begin("anywhere")
    ray.release.set()
    assert ahead.take(1000) is None
    assert ray.done == ["started", "ended"]


def test_an_error_of_its_start_is_told_to_who_needs_it(ray: Fake):
    ray.error = UserError("Ray did not start")
    ahead.begin("anywhere")
    taken = ahead.take(1)
    ray.release.set()
    assert taken is not None
    with pytest.raises(UserError, match="Ray did not start"):
        taken.wait()
    taken.end()
