"""One attempt at an attached training: its snapshots and values on their way to storage, and how it ended."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from tangentscope.pipeline.driver.attach.notices import Teller
from tangentscope.pipeline.driver.attach.trainings import Place
from tangentscope.pipeline.driver.attach.value_names import Names
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.outcome import Ending
from tangentscope.pipeline.store.run_files import Attempt as AttemptRecord
from tangentscope.pipeline.store.snapshots import FROZEN, frozen_in
from tangentscope.pipeline.system.errors import Fenced, Stopped, one_line
from tangentscope.pipeline.system.memory import peak_memory
from tangentscope.pipeline.training import attempts
from tangentscope.pipeline.training.learner import World
from tangentscope.pipeline.training.recorder import Differs, Recorder, ShapesError


class Attempt:
    """What a loop gives, recorded. Nothing that goes wrong with that is raised: it is told once, and tried again.

    Args:
        launch: The right to publish.
        place: The training's.
        module: The network that the loop trains.
        notify: Called, in a thread, with a Notice for each snapshot on storage.
        names: Under which values are recorded.
        teller: Is told what goes wrong.
        check: Called before the first snapshot; says what is wrong with the network as it is then, if anything is.
    """

    def __init__(
        self,
        launch: Launch,
        place: Place,
        module: nn.Module,
        notify: Callable[[Notice], None],
        names: Names,
        teller: Teller,
        check: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._launch, self._place, self._module, self._check = launch, place, module, check
        self._run = place.run
        self._notify, self._names, self._teller = notify, names, teller
        self._schedule = frozenset(self._run.schedule)
        self._recorder: Recorder | None = None
        self._attempt: AttemptRecord | None = None  # the latest, with the start of the first
        self._over = False  # nothing more is to be recorded
        self._copy_seconds: list[float] = []
        self._wait_seconds = 0.0
        self.step: int | None = None

    def record(self, step: int, values: Mapping[str, float | Tensor]) -> None:
        """Values of a step by name, and a snapshot if the schedule has the step.

        Raises:
            Stopped: Somebody asked for it (`tangentscope stop`).
        """
        if (refusal := self._refusal(step)) is not None:
            self._teller.warn(refusal, "steps")
            return
        step = int(step)
        again, self.step = step == self.step, step
        due = step in self._schedule and not again
        try:
            recorder = self._recorder_at(step, due)
            if recorder is None:
                return
            for name, value in values.items():
                self._value(recorder, step, name, value)
            if due:
                self._snapshot(recorder, step)
        except Exception as error:
            self._lost(error)
            return
        if recorder.stopping:
            raise Stopped(f"stopped on request after {step} of {self._run.steps} steps")

    def end(self, error: BaseException | None) -> None:
        """Wait until all is on storage, and say there how the training ended; interrupted, it has not."""
        last = self._run.steps
        if error is None and self.step == last - 1:
            with suppress(Stopped):
                self.record(last, {})  # the last update was made after the last call
        if self.step is None and isinstance(error, Exception):
            self._recorder, self.step = self._begin(0), 0  # it failed before the first call
        try:
            self._settle()
        except Exception as trouble:
            self._lost(trouble)
        ended = error is None or isinstance(error, Exception)
        if self._attempt and ended and not self._over and (ending := self._ending(error, self._attempt)) is not None:
            device = next(self._module.parameters()).device
            attempts.end(self._launch, self._attempt, World(device=device), ending)

    def _refusal(self, step: int) -> str | None:
        last, whole = self._run.steps, not isinstance(step, bool) and _is_whole(step)
        if whole and 0 <= step <= last and (self.step is None or step >= self.step):
            return None
        after = "nothing" if self.step is None else self.step
        return (
            f"watch({step}) after {after}, expected steps that rise from 0 to {last}: it is left out; give the number "
            "of updates made, and attach() the right number of steps"
        )

    def _recorder_at(self, step: int, due: bool) -> Recorder | None:
        """The recorder, begun if it is the first step, or anew at a snapshot if storage failed before."""
        if self._recorder is None and not self._over and (due or not self._attempt):
            first = not self._attempt
            self._recorder = self._begin(step)
            if first and (wrong := self._check()) is not None:
                self._teller.warn(f"{wrong}: what is measured may be wrong; attach() in the state that is trained")
        return self._recorder

    def _begin(self, step: int) -> Recorder:
        run, first = self._run, self._attempt is None
        attempt = attempts.begin_anew(self._launch, run.id, step)
        if run.id in self._place.replaced and first:
            run_files.leave_trajectory(self._launch.storage, run.id, attempt.attempt, -1)
        recorder = Recorder(
            self._launch, run.id, attempt.attempt, run.epoch_steps, step, self._module, self._notify,
            self._teller.warn, keeps_earlier=self._place.kept,
        )  # fmt: skip
        self._attempt = replace(attempt, started_at=(self._attempt or attempt).started_at)
        return recorder.__enter__()

    def _value(self, recorder: Recorder, step: int, name: str, value: float | Tensor) -> None:
        try:
            number = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            self._teller.warn(f"{name}: got {type(value).__name__}, expected one number ({one_line(error)})", name)
            return
        recorder.row(step, *self._names.of(name), number)

    def _snapshot(self, recorder: Recorder, step: int) -> None:
        try:
            recorder.snapshot(step, self._module, about={FROZEN: json.dumps(frozen_in(self._module))})
        except ShapesError as error:
            self._teller.warn(f"{error}: no snapshots are taken until it has its shape again", "shape")

    def _lost(self, error: Exception) -> None:
        """Give a recorder up that has failed; the next snapshot begins another one."""
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            self._add_costs(recorder)
            with suppress(Exception):  # it is the first error that is told
                recorder.__exit__(type(error), error)
        self._over = self._over or isinstance(error, Fenced | Differs)
        if isinstance(error, Differs):
            mend = "pass config= or seed= to keep both, overwrite=True to replace it, or another out"
            self._teller.warn(f"{error}; what is there stays, and nothing of this one is recorded: {mend}")
        elif self._over:
            self._teller.warn(f"{one_line(error)}; nothing more is recorded, training goes on")
        else:
            self._teller.warn(f"{one_line(error)}; training goes on, recording is tried again", type(error).__name__)

    def _settle(self) -> None:
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            self._add_costs(recorder)
            recorder.__exit__(None)

    def _add_costs(self, recorder: Recorder) -> None:
        self._copy_seconds += recorder.copy_seconds
        self._wait_seconds += recorder.wait_seconds

    def _ending(self, error: BaseException | None, attempt: AttemptRecord) -> Ending | None:
        """How the training ended; None where an earlier attempt had finished, and this one has not come as far."""
        last, costs = self._run.steps, self._costs(attempt)
        if error is None and self.step == last:
            return Ending("finished", costs=costs)
        if self._place.kept:
            return None
        if error is None or isinstance(error, Stopped):
            return Ending("stopped", f"the loop ended after {self.step} of {last} steps", costs=costs)
        return Ending("failed", one_line(error), "".join(traceback.format_exception(error)), costs)

    def _costs(self, attempt: AttemptRecord) -> dict[str, float | None]:
        copied, waited = sum(self._copy_seconds), self._wait_seconds
        return {
            "steps": self.step,
            "training_seconds": time.time() - attempt.started_at - copied - waited,
            "copy_seconds": copied,
            "wait_seconds": waited,
            "snapshots": len(self._copy_seconds),
            "peak_memory": peak_memory(),
        }


def _is_whole(step: Any) -> bool:
    try:
        return int(step) == step
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return False
