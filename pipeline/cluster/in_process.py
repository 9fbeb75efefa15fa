"""Measuring in this process, where that is done before Ray would be up.

It is the same hub and the same measuring as on Ray: what is measured once is measured, and whoever goes on with it, a
prober on Ray or the next launch, finds the rest on storage.
"""

import asyncio
import threading
import uuid
from collections.abc import Callable
from functools import partial

import torch

from tangentscope.pipeline.cluster.hub import Hub
from tangentscope.pipeline.config.resources import ProbePool
from tangentscope.pipeline.probing.ledger import Job
from tangentscope.pipeline.probing.measurer import Measurer
from tangentscope.pipeline.store.failures import state_of
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.store.tables import Rows
from tangentscope.pipeline.system import memory
from tangentscope.pipeline.system.errors import one_line

_WORTH_SECONDS = 20.0  # of measuring that waits: a Ray is up, and its probers have loaded, after about that long
_NAME = "here"

Wait = Callable[[HubStatus], None]


def measured_here(launch: Launch, pool: ProbePool, wait: Wait) -> bool:
    """Measure the snapshots that wait, one after the other; False as soon as the rest is better done on Ray.

    How long a snapshot takes is seen from those that have been measured, and from the one in hand: nothing is guessed.

    Args:
        launch: The right to publish.
        pool: What a prober of the study has.
        wait: Called about twice a second with the hub's status; may raise to end the launch.

    Raises:
        Stopped: Storage takes nothing.
    """
    if pool.gpu:
        return False
    memory.keep_freed()
    torch.set_num_threads(pool.cpu)  # as in a prober: numbers must not hang on who measures
    plan = Store(launch.storage).plan
    return asyncio.run(_measure(launch, Measurer(launch.storage, plan, memory_bytes=pool.memory_bytes), wait))


async def _measure(launch: Launch, measurer: Measurer, wait: Wait) -> bool:
    hub = Hub(launch)
    drained, working = asyncio.create_task(hub.drain()), asyncio.create_task(_work(hub, measurer))
    quicker_here = True
    try:
        while quicker_here and not drained.done():
            status = await hub.status()
            wait(status)
            quicker_here = status.backlog < _WORTH_SECONDS
            await asyncio.wait([drained, working], timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()  # it ends before the hub closes by an error alone
    except BaseException:
        await hub.close()  # with what has been delivered; what is in hand is lost
        raise
    await hub.close()
    await working
    await hub.close()  # with what was in hand
    if quicker_here:
        await drained  # for what it has to raise
    return quicker_here


async def _work(hub: Hub, measurer: Measurer) -> None:
    """Take, measure and deliver until the hub closes, as a prober does."""
    life = uuid.uuid4().hex
    await hub.hello(_NAME, life)
    while (job := await hub.take(_NAME, life)) is not None:
        try:
            rows = await _apart(measurer, job)
        except Exception as error:
            await hub.give_back(job.ticket, one_line(error), state_of(error))
        else:
            await hub.deliver(job.ticket, rows)


async def _apart(measurer: Measurer, job: Job) -> Rows:
    """A job's rows, measured by a thread for which a launch that is to end does not wait."""
    loop = asyncio.get_running_loop()
    rows: asyncio.Future[Rows] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: rows.cancelled() or settled())

    def measure() -> None:
        try:
            measured = measurer.measure(job)
        except Exception as error:
            settle(partial(rows.set_exception, error))
        else:
            settle(partial(rows.set_result, measured))

    threading.Thread(target=measure, daemon=True, name="measure").start()
    return await rows
