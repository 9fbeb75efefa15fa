"""What `attach` gives: called in every step of a loop, closed at its end; it never ends the loop by itself."""

import atexit
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from torch import Tensor

from tangentscope.pipeline.driver.attach.attempt import Attempt
from tangentscope.pipeline.driver.attach.failed_values import Failure, failures
from tangentscope.pipeline.driver.attach.notices import Teller
from tangentscope.pipeline.driver.finish import publish
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import HubStatus
from tangentscope.pipeline.system.errors import Stopped, UserError, one_line
from tangentscope.pipeline.system.signals import interruptible

if TYPE_CHECKING:
    from tangentscope.pipeline.cluster.scheduler import Crew

# For the measurements left over by a loop that failed; less than `tangentscope stop` waits for the launch to end.
_PATIENCE_SECONDS = 60.0
_SILENCE_SECONDS = 60.0  # after which a hub that says nothing is taken to be gone
_NEWS_SECONDS = 10.0  # between two lines that say what is left to be measured

_open: "dict[str, Watch]" = {}
"""By output: those of this process that have not been closed. They are held, so that none is lost unclosed."""


class Watch:
    """Call it in every step with the number of updates made so far. A step that is left out has no snapshot.

    Use it in a ``with`` block, or call `close` at the end.

    Attributes:
        failed: after `close`, what could not be measured, by variable.
        troubles: all that has gone wrong so far, a line each.
    """

    def __init__(
        self, launch: Launch, crew: "Crew", attempt: Attempt, run: PlannedRun, teller: Teller, held: ExitStack
    ) -> None:
        self._launch, self._crew, self._attempt, self._run = launch, crew, attempt, run
        self._teller, self._held, self.process = teller, held, os.getpid()
        self._closed = self._at_exit = False
        self.failed: dict[str, Failure] = {}
        _open[launch.storage.uri] = self
        atexit.unregister(_close_all)  # what was registered last is called first: before Ray ends itself
        atexit.register(_close_all)

    def __call__(self, step: int, **values: float | Tensor) -> None:
        """Take a snapshot if the schedule has `step`, and record values by name; ``test_loss`` is the test split's.

        What goes wrong is told once, as a warning, and the loop goes on.

        Raises:
            UserError: It has been closed.
            Stopped: Somebody asked for it (`tangentscope stop`).
        """
        self._check_open()
        self._attempt.record(step, values)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close(error)

    @property
    def step(self) -> int | None:
        """The step of the latest call."""
        return self._attempt.step

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    @property
    def troubles(self) -> tuple[str, ...]:
        """All that has gone wrong so far, a line each."""
        return self._teller.warned

    def close(self, error: BaseException | None = None) -> None:
        """Wait for the last measurements, write tables and report, and give the cluster back; once is enough.

        Args:
            error: What ended the loop, if it failed. Then it waits for a minute at most, for an interrupt not at all,
                and what goes wrong here becomes a note on it.

        Raises:
            Stopped: On SIGINT, SIGTERM or SIGHUP while it waits; what was done is kept.
        """
        if self._closed:
            return
        self._closed = True
        _open.pop(self._launch.storage.uri, None)
        try:
            self._finish(error)
        except Stopped as stop:
            if error is None:
                raise
            self._lament(str(stop), error)
        except Exception as trouble:  # what comes after the loop is to go on, whatever becomes of its monitoring
            self._lament(one_line(trouble), error)
        finally:
            self._let_go(error)

    def close_at_exit(self) -> None:
        """Close what nobody has closed before the process ends; what ended it, ended the loop."""
        self._at_exit = True
        self._teller.warn("close() has not been called, so it is done now; use attach() in a with block, or call it")
        # An interactive shell keeps what was raised last, whenever that was.
        error = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
        try:
            self.close(error)
        except Stopped as stop:
            self._teller.warn(str(stop))

    def _finish(self, error: BaseException | None) -> None:
        failed = isinstance(error, Exception)
        if failed:
            self._teller.warn(f"{one_line(error)}; finishing the loop's measurements (Ctrl-C to skip)")
        # Whoever interrupts does not want to wait.
        patience = None if error is None else _PATIENCE_SECONDS if failed else 0.0
        with interruptible() as interrupt:
            trouble = self._guarded(lambda: self._attempt.end(error))
            if trouble is not None:
                self._lament(one_line(trouble), error)
            trouble = self._guarded(lambda: self._crew.drain(_Wait(self._teller, interrupt.check, patience)))
            there = trouble is None or isinstance(trouble, Stopped)
            if isinstance(trouble, Stopped):
                self._crew.dismiss()
            elif trouble is not None:
                mend = "the snapshots are kept, and those that are left are measured when the loop runs again"
                self._lament(f"{one_line(trouble)}; {mend}", error)
            try:
                store = Store(self._launch.storage)
                publish(store, self._launch)
                self._sum_up(store)
            finally:
                if there:
                    self._track()
        if isinstance(trouble, Stopped):
            if interrupt.number is not None:
                raise trouble
            self._lament(str(trouble), error)

    def _guarded(self, act: Callable[[], None]) -> Exception | None:
        try:
            act()
        except Exception as error:
            return error
        return None

    def _track(self) -> None:
        _, trouble = self._crew.finish_tracking()
        if trouble:
            mend = f"nothing is lost: tangentscope sync {self._launch.storage.uri}"
            self._teller.warn(f"MLflow is behind ({trouble}); {mend}")

    def _let_go(self, error: BaseException | None) -> None:
        if (trouble := self._guarded(self._held.close)) is not None:
            self._lament(one_line(trouble), error)

    def _lament(self, line: str, error: BaseException | None) -> None:
        if error is None or self._at_exit:  # nobody prints an error's notes any more
            self._teller.warn(line)
        else:
            error.add_note(line)

    def _sum_up(self, store: Store) -> None:
        """Say what was measured and what could not be, and where the report is."""
        rows = store.measurements()
        rows = rows.loc[rows["run"] == self._run.id]
        self.failed = {failure.variable: failure for failure in failures(rows)}
        taken = len(run_files.current_snapshots(self._launch.storage, self._run.id))
        measured = int((rows["state"] == "measured").sum())
        self._teller.say(
            f"{taken} of {len(self._run.schedule)} snapshots, {measured} of {len(rows)} values measured; "
            f"report: {self._launch.storage.path(layout.REPORT)}"
        )
        if self.failed:
            lost = sum(failure.count for failure in self.failed.values())
            causes = "; ".join(map(str, self.failed.values()))
            self._teller.warn(f"{lost} of {len(rows)} values could not be measured: {causes}")

    def _check_open(self) -> None:
        if self._closed:
            raise UserError("this watch has been closed, and takes nothing more; attach() the network again")


class _Wait:
    """Called about twice a second, with the hub's status, while the last snapshots are measured.

    Args:
        teller: Is told how many are left, now and then.
        check: Raises Stopped if somebody wants to wait no longer.
        patience: Seconds that it may take; None for as long as it takes.
    """

    def __init__(self, teller: Teller, check: Callable[[], None], patience: float | None) -> None:
        self._teller, self._check = teller, check
        self._heard = self._said = time.monotonic()
        self._until = None if patience is None else self._heard + patience

    def __call__(self, status: HubStatus) -> None:
        """Go on waiting.

        Raises:
            Stopped: Waiting is to end.
            ConnectionError: The hub has not answered for a minute.
        """
        self._check()
        now = time.monotonic()
        if self._until is not None and now > self._until:
            raise Stopped("snapshots are left to be measured; run the loop again to have them measured")
        if status.answers:
            self._heard = now
        elif now - self._heard > _SILENCE_SECONDS:
            raise ConnectionError(f"the Ray cluster has not answered for {_SILENCE_SECONDS:.0f} s")
        if status.answers and now - self._said > _NEWS_SECONDS:
            self._said = now
            self._teller.say(f"{status.waiting + status.in_hand} snapshots left to be measured")


def close_in(output: str, teller: Teller) -> None:
    """Close what this process has left open in an output, as a notebook does whose cell is run again."""
    if (earlier := _open.get(output)) is not None:
        teller.warn(f"{output} was still watched by an earlier attach() of this process; closing that first")
        earlier.close()


def _close_all() -> None:
    for watch in [*_open.values()]:
        if watch.process == os.getpid():  # not in a fork
            watch.close_at_exit()
