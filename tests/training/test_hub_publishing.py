"""The hub's publishing, as a plain object on an event loop of this process."""

import asyncio
import errno
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from gated_storage import GatedStorage
from hub_cases import NAMES, measured, on_loop, publish_plan, remaining, rows_of, take, three_snapshots
from training_cases import RUN

from tangentscope.pipeline.cluster.hub import Hub
from tangentscope.pipeline.probing.ledger import TRIES
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.failures import FAILED
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import Fenced, Stopped


@pytest.fixture
def storage(tmp_path: Path) -> GatedStorage:
    return three_snapshots(tmp_path)


def test_what_counts_as_measured_is_on_storage_with_its_spectrum_and_profiles_before_it(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[0]))
        job = await take(hub)
        await hub.deliver(job.ticket, rows_of(job))
        assert (await hub.status()).measured == {RUN: 0}
        await hub._publish()
        assert (await hub.status()).measured == {RUN: 2}

    on_loop(storage, test)
    assert [name.split("/")[1] for name in storage.written if name.startswith("tables")] == [
        "spectra",
        "profiles",
        "measurements",
    ]
    assert measured(storage) == [(0, "entropy", "measured"), (0, "trace", "measured")]
    # Another hub knows, and asks only for what is missing.
    assert on_loop(storage, lambda hub: remaining(hub)) == [4, 8]


def test_how_long_jobs_take_tells_how_far_probers_are_behind(
    storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    async def test(hub: Hub) -> None:
        nonlocal now
        for name in NAMES:
            await hub.notice(Notice(RUN, name))
        assert (await hub.status()).backlog == 0, "nothing tells yet"
        job = await take(hub)
        now += 5
        assert (await hub.status()).backlog == 2 * 5, "at least as long as it has taken so far"
        now += 2
        await hub.deliver(job.ticket, rows_of(job))
        await hub.deliver(job.ticket, rows_of(job))  # a call that Ray repeats
        assert (await hub.status()).backlog == 2 * 7
        job = await take(hub)
        now += 3
        assert (await hub.status()).backlog == 1 * 7
        now += 1000
        assert (await hub.status()).backlog == 1 * 1003
        await hub.give_back(job.ticket, "told nothing of a measurement", FAILED)
        await hub.deliver(job.ticket, rows_of(job))  # which another has in hand by now
        assert (await hub.status()).backlog == 2 * 7

    on_loop(storage, test)


@pytest.mark.parametrize("broken", ["tables/spectra", "tables/profiles", "tables/measurements"])
def test_rows_wait_for_a_storage_that_is_full(broken: str, storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[0]))
        job = await take(hub)
        await hub.deliver(job.ticket, rows_of(job))
        storage.fails[broken] = lambda: OSError(errno.ENOSPC, "No space left on device")
        await hub._publish()
        status = await hub.status()
        assert "No space" in status.trouble
        assert status.measured == {RUN: 0}
        assert not hub.ledger.idle
        storage.fails.clear()
        await hub._publish()
        status = await hub.status()
        assert (status.trouble, status.measured) == (None, {RUN: 2})

    on_loop(storage, test)
    assert measured(storage) == [(0, "entropy", "measured"), (0, "trace", "measured")]


def test_a_job_that_fails_three_times_leaves_rows_that_say_so(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[1]))
        for _ in range(TRIES):
            job = await take(hub)
            await hub.give_back(job.ticket, "out of memory", FAILED)
        assert not hub.ledger.waiting
        await hub._publish()

    on_loop(storage, test)
    assert measured(storage) == [(4, "entropy", "failed"), (4, "trace", "failed")]
    assert set(Store(storage).measurements()["cause"]) == {"out of memory"}
    assert on_loop(storage, lambda hub: remaining(hub)) == [0, 8]
    plan = storage.read_json(layout.PLAN)
    storage.write_json(layout.PLAN, plan | {"retried": {RUN: 2}})
    assert on_loop(storage, lambda hub: remaining(hub)) == [0, 4, 8]  # a failure is never done


def test_what_a_prober_died_of_is_tried_again_by_the_next_hub(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[1]))
        for life in range(TRIES + 1):
            await hub.hello("a", str(life))
            assert life == TRIES or await hub.take("a", str(life))
        assert not hub.ledger.waiting
        await hub._publish()

    on_loop(storage, test)
    assert measured(storage) == [(4, "entropy", "interrupted"), (4, "trace", "interrupted")]
    assert set(Store(storage).measurements()["launch"]) == {1}
    assert on_loop(storage, lambda hub: remaining(hub)) == [0, 4, 8]


def test_a_hub_deals_no_more_runs_once_there_is_no_room(storage: GatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(hub: Hub) -> None:
        assert (await hub.status()).halted is None
        await hub.halt("No space left on device")
        assert await hub.next_unit(0) == ()
        assert (await hub.status()).halted == "No space left on device"

    async def full(hub: Hub) -> None:
        def deal(self: object, group: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("tangentscope.pipeline.training.queue.Dealer.deal", deal)
        assert await hub.next_unit(0) == ()
        assert "No space left" in (await hub.status()).halted

    on_loop(storage, test)
    on_loop(storage, full)


def test_a_prober_that_waits_is_told_when_a_comparison_becomes_possible(storage: GatedStorage) -> None:
    publish_plan(storage, velocity=["previous"])

    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[1]))
        job = await take(hub)
        assert job.wanted == {"p": ("trace", "entropy")}
        await hub.notice(Notice(RUN, NAMES[0]))
        first = await take(hub, "b")
        assert first.name.step == 0
        waiting = asyncio.ensure_future(hub.take("b", "life"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await hub.deliver(job.ticket, rows_of(job))
        await hub._publish()
        job = await waiting
        assert (job.wanted, job.earlier) == ({"p": ("velocity",)}, {"previous": NAMES[0]})

    on_loop(storage, test)


def test_a_replay_whose_first_notice_was_lost_is_known_from_storage(storage: GatedStorage) -> None:
    """Attempt 2 left the trajectory at step 0; the hub had heard of no snapshot there that could have told it."""
    replayed = SnapshotName(0, 2, "f" * 16)

    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[1]))
        storage.write_json(f"runs/{RUN}/replays/0002.json", {"after_step": -1})
        await hub.notice(Notice(RUN, replayed))
        assert (await take(hub)).name == replayed
        assert (await hub.status()).waiting == 0

    on_loop(storage, test)


def test_an_older_launchs_hub_publishes_nothing(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[0]))
        job = await take(hub)
        await hub.deliver(job.ticket, rows_of(job))
        storage.create("launches/000002.json", b"{}")
        with pytest.raises(Fenced):
            await hub._publish()

    on_loop(storage, test)
    assert measured(storage) == []


def test_close_sends_waiting_probers_home_and_publishes_what_they_delivered(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[2]))
        job = await take(hub)
        waiting = asyncio.ensure_future(hub.take("a", "life"))
        await hub.deliver(job.ticket, rows_of(job))
        await hub.close()
        assert await waiting is None

    on_loop(storage, test)
    assert [step for step, _, _ in measured(storage)] == [8, 8]


def test_a_storage_that_stays_full_ends_the_wait_with_its_reason(
    storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tangentscope.pipeline.cluster.hub._PATIENCE_SECONDS", -1.0)

    async def test(hub: Hub) -> None:
        for name in NAMES:
            await hub.notice(Notice(RUN, name))
            job = await take(hub)
            await hub.deliver(job.ticket, rows_of(job))
        storage.fails["tables/"] = lambda: OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(Stopped, match=r"error: .*No space left on device.*run the same command again") as caught:
            await hub.drain()
        assert pickle.loads(pickle.dumps(caught.value)).code == 1  # also where the launch hears of it
        storage.fails.clear()
        await hub.drain()

    on_loop(storage, test)
    assert len(measured(storage)) == 6


def test_a_storage_that_fails_once_ends_no_publishing(storage: GatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tangentscope.pipeline.cluster.hub._RESCAN_SECONDS", -1.0)
    monkeypatch.setattr("tangentscope.pipeline.store.tables.flush_interval", lambda elapsed: 0.0)
    plain, asked = run_files.current_snapshots, []

    def current_snapshots(*where: Any) -> list[SnapshotName]:
        asked.append(where)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return plain(*where)

    async def main() -> None:
        hub = Hub(Launch(storage, 1))
        monkeypatch.setattr(run_files, "current_snapshots", current_snapshots)
        for _ in NAMES:  # found by looking again, after the first look failed
            job = await asyncio.wait_for(take(hub), 60)
            await hub.deliver(job.ticket, rows_of(job))
        await asyncio.wait_for(hub.drain(), 60)
        assert not hub._task.done()
        hub._task.cancel()

    asyncio.run(main())
    assert len(measured(storage)) == 6
