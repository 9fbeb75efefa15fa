"""A training loop of the user's own, watched: its snapshots go to the same probers, tables, report and MLflow.

>>> with pipeline.attach(model, "results/mine", steps=1000, train=(x, y)) as watch:  # doctest: +SKIP
...     for step, (inputs, targets) in enumerate(batches):
...         watch(step)  # before update number `step`: a copy, where the schedule asks for one
...         train_one_step(model, inputs, targets)
"""

import copy
import logging
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pipeline import layout, provenance
from pipeline.ending import publish
from pipeline.errors import Stopped, UserError, one_line
from pipeline.interrupts import interruptible
from pipeline.launch import Launch, claim
from pipeline.layout import Notice
from pipeline.mending import mend_tables
from pipeline.planned import attached_record
from pipeline.points import draw_points, keep_points
from pipeline.recorder import Recorder
from pipeline.redaction import redacted
from pipeline.resources import Resources
from pipeline.snapshots import unwrapped
from pipeline.spec import Probes, validate
from pipeline.storage import Storage
from pipeline.store import Store
from pipeline.subjects import Attached, Loss
from pipeline.tracking_uri import check_server, default_uri
from pipeline.training import peak_memory
from probes import givens_of
from tasks import Split

if TYPE_CHECKING:
    from pipeline.cluster.scheduler import Crew

_LOG = logging.getLogger(__name__)
# For the measurements left over by a loop that failed; less than `tangentscope stop` waits for the launch to end.
_PATIENCE_SECONDS = 60.0

Points = tuple[Tensor, Tensor]
"""Inputs [n, ...] and targets [n, ...]."""


class Watch:
    """Call it in every step with the number of updates made so far. A step that is left out has no snapshot."""

    def __init__(self, launch: Launch, record: Mapping[str, Any], module: nn.Module, hub: Any) -> None:
        self._launch, self._record, self._module, self._hub = launch, record, module, hub
        self._schedule = frozenset(record["schedule"])
        self._recorder: Recorder | None = None
        self.step: int | None = None

    def __call__(self, step: int, **values: float | Tensor) -> None:
        """Take a snapshot if the schedule has `step`, and record values by name; ``test_loss`` is the test split's.

        Raises:
            UserError: Steps that go back, or on beyond the end.
            Stopped: Somebody asked for it (`tangentscope stop`).
        """
        if not 0 <= step <= self._record["steps"] or (self.step is not None and step < self.step):
            raise UserError(
                f"watch({step}) after {'nothing' if self.step is None else self.step}, expected steps that rise from 0 "
                f"to {self._record['steps']}: give the number of updates made, and attach() the right number of steps"
            )
        again, self.step = step == self.step, step
        if self._recorder is None:
            self._recorder = self._begin(step)
        for name, value in values.items():
            split, _, rest = name.partition("_")
            at = (split, rest) if split in ("train", "test") and rest else ("train", name)
            self._recorder.row(step, *at, float(value.detach() if isinstance(value, Tensor) else value))
        if step in self._schedule and not again:
            self._recorder.snapshot(step, self._module)
        if self._recorder.stopping:
            raise Stopped(f"stopped on request after {step} of {self._record['steps']} steps")

    def _begin(self, step: int) -> Recorder:
        run, storage = self._record["run"], self._launch.storage
        attempt = 1 + len([name for name in storage.list(f"runs/{run}/attempts") if name.endswith(".json")])
        self.start: dict[str, Any] = {
            "attempt": attempt,
            "launch": self._launch.epoch,
            "started_at": time.time(),
            "resumed_at": step,
        }
        self.start |= {"host": provenance.host(), "checkpoint": None}
        self._launch.check()
        storage.write_json(f"runs/{run}/attempts/{attempt:04d}.json", self.start)

        def notify(notice: Notice) -> None:
            self._hub.notice.remote(notice)

        recorder = Recorder(self._launch, run, attempt, self._record["epoch_steps"], step, self._module, notify)
        return recorder.__enter__()

    def end(self, error: BaseException | None) -> None:
        """Wait until all is on storage, and say there how the training ended; interrupted, it has not."""
        last = self._record["steps"]
        if error is None and self.step == last - 1:
            self(last)  # the last update was made after the last call
        if self._recorder is None and isinstance(error, Exception):
            self._recorder, self.step = self._begin(0), 0  # it failed before the first call
        if self._recorder is None:
            return
        self._recorder.__exit__(None if error is None else type(error), error)
        if error is not None and not isinstance(error, Exception):
            return
        if error is None and self.step == last:
            outcome = {"state": "finished", "cause": None}
        elif error is None or isinstance(error, Stopped):
            outcome = {"state": "stopped", "cause": f"the loop ended after {self.step} of {last} steps"}
        else:
            told = redacted("".join(traceback.format_exception(error)))
            outcome = {"state": "failed", "cause": one_line(error), "traceback": told}
        ended, began = time.time(), float(self.start["started_at"])
        outcome |= {key: self.start[key] for key in ("attempt", "started_at", "host")}
        outcome |= {"ended_at": ended, "seconds": ended - began, "workers": 1, "steps": self.step}
        copied, waited = sum(self._recorder.copy_seconds), self._recorder.wait_seconds
        outcome |= {"copy_seconds": copied, "wait_seconds": waited}
        outcome |= {"training_seconds": ended - began - copied - waited}
        outcome |= {"snapshots": len(self._recorder.copy_seconds), "peak_memory": peak_memory()}
        outcome |= {"device": str(next(self._module.parameters()).device)}
        self._launch.check()
        self._launch.storage.write_json(layout.outcome(self._record["run"]), outcome)


@contextmanager
def attach(
    model: nn.Module,
    out: str | Path,
    *,
    steps: int,
    train: Points,
    test: Points | None = None,
    loss: Loss | None = None,
    variables: Sequence[str] = ("trace", "entropy", "effective_rank"),
    schedule: Mapping[str, Any] | None = None,
    kernel: Mapping[str, Any] | None = None,
    epoch_steps: int | None = None,
    name: str = "attached",
    resources: Mapping[str, Any] | None = None,
    offline: bool = False,
    address: str | None = None,
) -> Iterator[Watch]:
    """Watch a training loop: snapshots of `model` are measured in Ray actors beside it while the block runs.

    Of several workers that train together, only rank 0 attaches. Leaving the block waits for the last measurements;
    after an exception for a minute at most, then that goes on unchanged. An interrupt (Ctrl-C) is not kept waiting.

    Args:
        model: The network that the loop changes, also wrapped (DDP, compile).
        out: Results: a directory or storage URI, of this training alone.
        steps: Updates in the whole training.
        train, test: Points that kernels are taken of; targets may be anything where no variable needs them.
        loss: Of each point from outputs and targets, as variables that need it want it.
        variables, schedule, kernel: As under ``probes`` in a study file.
        epoch_steps: Updates in an epoch; given, they make the horizontal axis epochs instead of steps.
        name: Of the study, and of the MLflow experiment.
        resources: As in a study file.
        offline, address: As for ``tangentscope run``.

    Raises:
        UserError: Anything that does not hold, before the loop begins.
        Stopped: On SIGINT, SIGTERM or SIGHUP while it waits at the end, or where storage takes nothing; what was done
            is kept.
    """
    if steps < 1:
        raise UserError(
            f"attach(): steps: got {steps}, expected at least 1: the number of updates in the whole training"
        )
    splits = {split: _points(split, given) for split, given in (("train", train), ("test", test)) if given is not None}
    asked = {"splits": [*splits], "variables": [*variables]}
    asked |= {key: dict(value) for key, value in (("schedule", schedule), ("kernel", kernel)) if value is not None}
    probes = validate(Probes, asked, "", "attach()")
    pools = validate(Resources, dict(resources or {}), "resources", "attach()")
    for split, points in splits.items():
        if probes.kernel.size > len(points):
            got = f"got {probes.kernel.size} points in a draw, but {split} has {len(points)}"
            raise UserError(f"attach(): kernel.size: {got}; lower it or give more points")
    if needy := [each for each in variables if loss is None and givens_of(each) & {"residual", "output_hessian"}]:
        raise UserError(f"attach(): {needy[0]} needs the loss of each point; pass loss=, or leave it out")
    storage = Storage.at(out)
    storage.check_writable()
    uri = None if offline else default_uri(storage)
    if uri is not None:
        check_server(uri)
    from pipeline.cluster.connection import connected
    from pipeline.cluster.scheduler import Crew  # loads Ray

    with claim(storage) as launch, connected(address, [(pools, storage)]):
        plan = attached_record(name, unwrapped(model), steps, epoch_steps, splits, probes, launch.epoch)
        _prepare(launch, plan, splits, probes)
        subject = Attached(copy.deepcopy(unwrapped(model)).cpu(), loss)
        crew = Crew(launch, pools, uri, lambda status: None, subject=subject)
        crew.probers.check()
        watch = Watch(launch, plan["runs"][0], model, crew.hub)
        try:
            try:
                yield watch
            except BaseException as error:
                _settle(error, watch, crew, launch)
                raise
            with interruptible() as interrupt:
                watch.end(None)
                crew.drain(lambda status: interrupt.check())
                publish(storage, launch)
        finally:
            crew.finish_tracking()


def _settle(error: BaseException, watch: Watch, crew: "Crew", launch: Launch) -> None:
    """Keep what there is of a loop that `error` has ended; what goes wrong with that becomes a note on it."""
    failed = isinstance(error, Exception)  # else interrupted: whoever did that does not want to wait
    until = time.monotonic() + (_PATIENCE_SECONDS if failed else 0.0)
    with interruptible() as interrupt:

        def wait(status: dict[str, Any]) -> None:
            interrupt.check()
            if time.monotonic() > until:
                raise Stopped("snapshots are left to be measured; run the loop again to have them measured")

        if failed:
            _LOG.warning("%s: measuring its last snapshots first; Ctrl-C skips that", one_line(error))
        try:
            watch.end(error)
            try:
                crew.drain(wait)
            except Stopped as early:
                error.add_note(str(early))
                crew.dismiss()
            publish(launch.storage, launch)
        except Exception as trouble:
            error.add_note(one_line(trouble))


def _points(name: str, given: Points) -> Split:
    try:
        return Split(*given)
    except (TypeError, ValueError) as error:
        raise UserError(f"attach(): {name}: {error}; give (inputs, targets)") from None


def _prepare(launch: Launch, plan: dict[str, Any], splits: Mapping[str, Split], probes: Probes) -> None:
    storage, run = launch.storage, plan["runs"][0]
    known = Store(storage).runs if storage.exists(layout.PLAN) else [run]  # refused if a newer version wrote it
    if [each["run"] for each in known] != [run["run"]]:
        raise UserError(f"output {storage.uri} holds another training; give another directory")
    for probe in plan["probes"]:
        split = splits[probe["split"]].to("cpu")
        if fault := keep_points(storage, probe, partial(draw_points, split, probes.kernel)):
            _LOG.warning("%s; drawn again from the points given", fault)
    data = {plan["study"]: run["data"]["source"]}
    storage.write_json(layout.PROVENANCE, provenance.gather(shlex.join(sys.argv), [0], data, time.time()))
    layout.identify(storage)
    for line in mend_tables(launch, plan):
        _LOG.warning("%s", line)
    # Running the loop again is the retry: what failed before is measured anew.
    storage.write_json(layout.PLAN, plan | {"retried": {run["run"]: launch.epoch}})
    storage.remove(layout.outcome(run["run"]))
