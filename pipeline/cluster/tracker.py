"""The tracker: an actor beside the driver that keeps MLflow up with the store."""

import asyncio
from contextlib import suppress

from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import one_line
from tangentscope.pipeline.system.throttle import Throttle
from tangentscope.pipeline.tracking.tracker import Tracker

_SECONDS, _MOST_SECONDS = 2.0, 60.0


class TrackerActor:
    """Follows the store until told to finish. A server that goes away costs nothing: the next round catches up.

    Args:
        storage: The study's.
        uri: MLflow's tracking URI.
    """

    def __init__(self, storage: Storage, uri: str) -> None:
        self._tracker = Tracker(storage, uri, live=False)
        self._busy = asyncio.Lock()
        self._finishing = False
        self._task = asyncio.get_event_loop().create_task(self._follow())

    async def finish(self) -> tuple[str | None, str | None]:
        """Send all there is, figures and report too; the experiment's id, or None and what went wrong."""
        self._finishing = True
        async with self._busy:  # waits for a round under way
            try:
                return await asyncio.to_thread(self._tracker.finish), None
            except Exception as error:
                return None, one_line(error)

    async def _follow(self) -> None:
        look = Throttle()
        while not self._finishing:
            async with self._busy:
                with look, suppress(Exception):  # the next round tries again, and `finish` tells what is wrong by then
                    await asyncio.to_thread(self._tracker.follow)
            await asyncio.sleep(max(_SECONDS, min(look.seconds_left, _MOST_SECONDS)))
