"""Taking snapshots: training is held up for one copy at most, threads do the rest.

``Recorder.snapshot`` copies parameters and buffers into one of two preallocated buffers; the recorder's thread turns it
into an immutable safetensors file and tells whoever listens. Checkpoints and rows of loss and score go through the same
queue: a checkpoint is therefore on storage only after every snapshot before it, and a crash between the two replays
from an older checkpoint instead of losing a snapshot.
"""

import io
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tangentscope.pipeline.store import run_files, tables
from tangentscope.pipeline.store.checkpoints import seal_checkpoint
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.rows import At, Row, history_row, snapshot_row
from tangentscope.pipeline.store.sealed import checksum
from tangentscope.pipeline.store.snapshots import (
    SnapshotBuffer,
    about_frozen,
    parameters_of,
    plain_state,
    seal_snapshot,
    shapes_of,
)
from tangentscope.pipeline.system.errors import UserError

_OVERLAP_BYTES = 4 * 2**20  # of less, the copy is done before another thread is awake


class ShapesError(UserError):
    """A network has other parameters or buffers than at the beginning of its recording."""


class Differs(Exception):  # noqa: N818  a state of the training, not a mistake
    """An attempt that keeps the earlier ones has turned out to be another training."""


@dataclass(frozen=True)
class _Copying:
    """A snapshot whose parameters may still be on their way into its buffer, and what is to be done then."""

    done: Future[None] | None
    cost: dict[str, float]
    publish: Callable[[], None]


class Recorder:
    """Publishes what one attempt at a run produces, in order, from a thread of its own.

    Use as a context manager; leaving the block waits until all is on storage. An error of the thread (storage full,
    fenced by a newer launch) is raised in training at its next call.

    Args:
        launch: The right to publish.
        run: The run's id.
        attempt: Number of this start of the run; it stands in every name and row.
        epoch_steps: Updates in an epoch.
        resumed_at: Step of the checkpoint that training resumes from, 0 at a fresh start.
        module: The network, for the buffers' shapes.
        notify: Called in the thread with a Notice for each snapshot on storage.
        tell: Called in the thread with what a user should know of the snapshots, and with one word for its kind.
        keeps_earlier: Whether this attempt must not take the place of an earlier one from which it turns out to
            differ: it then ends with `Differs`, and has published no row beyond the last step at which both agreed.
    """

    def __init__(
        self,
        launch: Launch,
        run: str,
        attempt: int,
        epoch_steps: int,
        resumed_at: int,
        module: nn.Module,
        notify: Callable[[Notice], None] = lambda notice: None,
        tell: Callable[[str, str], None] = lambda line, kind: None,
        keeps_earlier: bool = False,
    ) -> None:
        self.launch, self.run, self.attempt, self.epoch_steps = launch, run, attempt, epoch_steps
        self.stopping = False  # set by the thread once somebody asks the launch or the run to stop
        self.checkpointing = False  # whether a checkpoint is on its way to storage
        self.copy_seconds: list[float] = []  # that training waited for each snapshot's copy
        self.wait_seconds = 0.0
        self._notify, self._tell, self._keeps_earlier = notify, tell, keeps_earlier
        self._earlier = {name.step: name for name in run_files.current_snapshots(launch.storage, run)}
        self._agreed_until = resumed_at
        self._free: queue.SimpleQueue[SnapshotBuffer] = queue.SimpleQueue()
        self._latest: tuple[int, str] | None = None  # step and checksum of the snapshot published last
        state = plain_state(module)
        self._shapes = shapes_of(state)
        for _ in range(2):
            self._free.put(SnapshotBuffer(state))
        self._copier = ThreadPoolExecutor(1, "copier")
        self._copying: _Copying | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._rows: dict[str, list[Row]] = {"history": [], "snapshots": []}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._publish_all, name="recorder", daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.settle()
        self._work.put(None)
        self._thread.join()
        self._copier.shutdown()
        if kind is None:
            self._raise()

    def snapshot(
        self, step: int, module: nn.Module, overlap: bool = False, about: Mapping[str, str] | None = None
    ) -> None:
        """Take a snapshot after `step` updates. Holds training up for one copy, longer only if storage is behind.

        Args:
            step: Updates made.
            module: The network.
            overlap: Copy large parameters while training goes on; `settle` must be called before they change.
            about: What the file's metadata are to say beside which parameters need no gradients.

        Raises:
            ShapesError: The network has other parameters or buffers than at the beginning.
        """
        self.settle()
        self._raise()
        begun = time.perf_counter()
        state, told = plain_state(module), about_frozen(module) | dict(about or {})
        self._check_shapes(state)
        while True:
            try:
                buffer = self._free.get(timeout=1.0)
                break
            except queue.Empty:
                self._raise()  # the thread has died: nobody will ever give a buffer back
        waited = time.perf_counter() - begun
        begun = time.perf_counter()
        late: dict[str, Tensor] = {}
        if overlap and buffer.bytes > _OVERLAP_BYTES:
            # A forward pass changes buffers, such as batch norm's; from a GPU the bus is faster than a thread is awake.
            late = {name: state.pop(name) for name in parameters_of(module) if not state[name].is_cuda}
        done = self._copier.submit(buffer.copy_from, late) if late else None
        buffer.copy_from(state)
        copied = time.perf_counter() - begun
        self.copy_seconds.append(copied)
        self.wait_seconds += waited
        cost = {"copy_seconds": copied, "wait_seconds": waited, "taken_at": time.time()}
        self._copying = _Copying(done, cost, lambda: self._publish_snapshot(step, buffer, cost, told))
        if not late:
            self.settle()

    def settle(self) -> None:
        """Wait until the last snapshot has been copied: from now on parameters may change."""
        if self._copying is None:
            return
        copying, self._copying = self._copying, None
        if copying.done is not None:
            begun = time.perf_counter()
            copying.done.result()
            waited = time.perf_counter() - begun
            copying.cost["copy_seconds"] += waited
            self.copy_seconds[-1] += waited
        self._work.put(copying.publish)

    def row(self, step: int, split: str, variable: str, value: float) -> None:
        """Record one value of loss or score."""
        self._raise()
        row = history_row(self._at(step), split, variable, value, time.time())
        self._work.put(lambda: self._rows["history"].append(row))

    def checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Publish a checkpoint once every snapshot and row before it is on storage, then drop the older ones.

        Args:
            step: Updates made.
            state: Tensors and plain values that nobody changes any more: a copy, not the live training state.
        """
        self.settle()
        self._raise()
        self.checkpointing = True
        self._work.put(lambda: self._publish_checkpoint(step, state))

    def _check_shapes(self, state: Mapping[str, Tensor]) -> None:
        present = shapes_of(state)
        if present == self._shapes:
            return
        first = next(n for n in (*present, *self._shapes) if present.get(n) != self._shapes.get(n))
        got, expected = present.get(first, "nothing"), self._shapes.get(first, "nothing")
        raise ShapesError(f"the network has changed its shape: {first}: got {got}, expected {expected} as at its start")

    def _at(self, step: int) -> At:
        return At(self.run, self.attempt, step, step / self.epoch_steps)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _publish_all(self) -> None:
        try:
            storage, begun = self.launch.storage, time.monotonic()
            flushed = looked = begun
            while True:
                try:
                    work = self._work.get(timeout=1.0)
                except queue.Empty:
                    work = self._nothing
                if work is None:
                    break
                work()
                now = time.monotonic()
                if now - looked > 1.0:
                    self.launch.check()
                    self.stopping = self.stopping or self.launch.stopping or storage.exists(run_files.stop(self.run))
                    looked = now
                if now - flushed > tables.flush_interval(now - begun):
                    self._flush()
                    flushed = now
            self._flush()
        except BaseException as error:  # told to training, which is in another thread
            self._error = error

    def _nothing(self) -> None:
        """What there is to do when a second has passed without work: look at the launch."""

    def _flush(self) -> None:
        for table, rows in self._rows.items():
            ready = [row for row in rows if not self._keeps_earlier or row["step"] <= self._agreed_until]
            if ready:
                self.launch.check()
                tables.write_part(self.launch.storage, table, ready, f"{self.run}-{self.attempt:04d}")
                rows[:] = rows[len(ready) :]  # steps rise

    def _publish_snapshot(
        self, step: int, buffer: SnapshotBuffer, cost: dict[str, float], about: Mapping[str, str]
    ) -> None:
        begun = time.perf_counter()
        name = SnapshotName(step, self.attempt, checksum(buffer.tensors))
        earlier = self._earlier.get(step)
        if earlier is not None and earlier.checksum == name.checksum and not earlier.freed:
            name = earlier  # a replay came by the same state: what is there stays
        else:
            self.launch.check()
            if self._diverges(step, name):
                if self._keeps_earlier:
                    raise Differs(f"from step {step} on this training is another than the one recorded here before")
                line = f"from step {step} on this training is another than before, and takes its place"
                self._tell(line, "differs")
                run_files.leave_trajectory(self.launch.storage, self.run, self.attempt, self._agreed_until)
                self._earlier = {}
            data = seal_snapshot(self.run, name, buffer.tensors, {**about, "taken_at": cost["taken_at"]})
            self.launch.storage.write(run_files.snapshot(self.run, name), data)
        if earlier is not None and earlier.checksum == name.checksum:
            self._agreed_until = max(self._agreed_until, step)
        if self._latest is not None and self._latest[0] < step and self._latest[1] == name.checksum:
            line = f"the snapshots of steps {self._latest[0]} and {step} are the same to the last bit"
            self._tell(f"{line}: is the network that is recorded the one that is trained?", "same")
        self._latest = step, name.checksum
        size = buffer.bytes
        self._free.put(buffer)
        written = time.perf_counter() - begun
        row = snapshot_row(self._at(step), name.checksum, size, write_seconds=written, **cost)
        self._rows["snapshots"].append(row)
        self._notify(Notice(self.run, name))

    def _diverges(self, step: int, name: SnapshotName) -> bool:
        # A step of which there was no snapshot (a denser schedule, a file that was lost) tells nothing by itself; one
        # passed by without a snapshot (another schedule) can no longer be told from one that differs.
        known = self._earlier.get(step)
        later = [earlier for earlier in self._earlier if earlier > self._agreed_until]
        skipped = any(earlier < step for earlier in later)
        return skipped or (bool(later) and known is not None and known.checksum != name.checksum)

    def _publish_checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        self._flush()
        self.launch.check()
        storage = self.launch.storage
        kept = run_files.checkpoint(self.run, step, self.attempt)
        data = io.BytesIO()
        torch.save(dict(state), data)
        storage.write(kept, seal_checkpoint(data.getvalue(), self.run, step))
        self.checkpointing = False
        for file in run_files.checkpoints(storage, self.run):
            if file != kept:
                storage.remove(file)
