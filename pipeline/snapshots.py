"""Taking snapshots: training is held up for one copy, a thread does the rest.

``Recorder.snapshot`` copies parameters and buffers into one of two preallocated buffers; the recorder's thread turns it
into an immutable safetensors file and tells whoever listens. Checkpoints and rows of loss and score go through the same
queue: a checkpoint is therefore on storage only after every snapshot before it, and a crash between the two replays
from an older checkpoint instead of losing a snapshot.
"""

import io
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
import xxhash
from torch import Tensor, nn

from pipeline import layout, tables
from pipeline.errors import UserError
from pipeline.launch import Launch
from pipeline.layout import Notice, SnapshotName
from pipeline.storage import Storage

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_DIGEST_BYTES = 8  # of xxh3 with 64 bits
_COMPILED = "_orig_mod"  # where torch.compile keeps a module


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, without DDP, DataParallel or torch.compile around it."""
    # Told by type, not by name: a network may well call a part of its own "module".
    while isinstance(module, _PARALLEL) or hasattr(module, _COMPILED):
        module = module.module if isinstance(module, _PARALLEL) else getattr(module, _COMPILED)
    return module


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their own names, wrappers' prefixes stripped; views, not copies.

    Raises:
        UserError: The module is sharded over workers (FSDP, tensor parallel): no worker has a whole snapshot.
    """
    module = unwrapped(module)
    state = module.state_dict()
    if sharded := [name for name, tensor in state.items() if hasattr(tensor, "full_tensor")]:
        raise UserError(
            f"parameter {sharded[0]} of {type(module).__name__} is sharded over workers, expected a whole one: train "
            "with DDP, or take snapshots of a copy that was gathered with full_tensor()"
        )
    return {name.replace(f"{_COMPILED}.", ""): tensor.detach() for name, tensor in state.items()}


class SnapshotBuffer:
    """Preallocated host memory for one snapshot. `copy_from` is all that training waits for."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        # Pinned memory lets the copy from a GPU run at the bus's full rate.
        pin = any(tensor.is_cuda for tensor in state.values())
        self.tensors = {name: torch.empty(t.shape, dtype=t.dtype, pin_memory=pin) for name, t in state.items()}

    def copy_from(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite the buffer with a state of the same names and shapes."""
        for name, tensor in state.items():
            self.tensors[name].copy_(tensor, non_blocking=True)
        if any(tensor.is_cuda for tensor in state.values()):
            torch.cuda.current_stream().synchronize()

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


def checksum(state: Mapping[str, Tensor]) -> str:
    """Sixteen hex digits over names, types, shapes and every bit of a state of CPU tensors."""
    digest = xxhash.xxh3_64()
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_snapshot(storage: Storage, run: str, name: SnapshotName) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state in a snapshot's file, and its metadata: ``run, step, attempt, checksum, taken_at`` as text.

    Raises:
        UserError: The bytes are not those that were written.
        FileNotFoundError: The file is not there, e.g. freed.
    """
    file = layout.snapshot(run, name)
    data = storage.read(file)
    try:
        # The format: eight bytes of header length, the header as JSON, the tensors.
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        state = safetensors.torch.load(data)
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{file}: damaged ({error}); remove it and run the study again") from error
    if (found := checksum(state)) != name.checksum:
        raise UserError(f"{file}: checksum {found}, expected {name.checksum}; remove it and run the study again")
    return state, metadata


def read_checkpoint(storage: Storage, file: str) -> bytes | None:
    """A checkpoint for `torch.load`, without the checksum at its end; None if the bytes are not those written."""
    data = storage.read(file)
    state, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return state if xxhash.xxh3_64_digest(state) == digest else None


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
    ) -> None:
        self.launch, self.run, self.attempt, self.epoch_steps = launch, run, attempt, epoch_steps
        self.stopping = False  # set by the thread once somebody asks the launch or the run to stop
        self.checkpointing = False  # whether a checkpoint is on its way to storage
        self.copy_seconds: list[float] = []
        self.wait_seconds = 0.0
        self._notify = notify
        self._earlier = {name.step: name for name in layout.current_snapshots(launch.storage, run)}
        self._agreed_until = resumed_at
        self._free: queue.SimpleQueue[SnapshotBuffer] = queue.SimpleQueue()
        state = plain_state(module)
        for _ in range(2):
            self._free.put(SnapshotBuffer(state))
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._rows: dict[str, list[dict[str, Any]]] = {"history": [], "snapshots": []}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._publish_all, name="recorder", daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._work.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def snapshot(self, step: int, module: nn.Module) -> None:
        """Take a snapshot after `step` updates. Holds training up for one copy, longer only if storage is behind."""
        self._raise()
        begun = time.perf_counter()
        while True:
            try:
                buffer = self._free.get(timeout=1.0)
                break
            except queue.Empty:
                self._raise()  # the thread has died: nobody will ever give a buffer back
        waited = time.perf_counter() - begun
        begun = time.perf_counter()
        buffer.copy_from(plain_state(module))
        copied = time.perf_counter() - begun
        self.copy_seconds.append(copied)
        self.wait_seconds += waited
        cost = {"copy_seconds": copied, "wait_seconds": waited, "taken_at": time.time()}
        self._work.put(lambda: self._publish_snapshot(step, buffer, cost))

    def row(self, step: int, split: str, variable: str, value: float) -> None:
        """Record one value of loss or score."""
        self._raise()
        row = self._at(step) | {"split": split, "variable": variable, "value": value, "recorded_at": time.time()}
        self._work.put(lambda: self._rows["history"].append(row))

    def checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Publish a checkpoint once every snapshot and row before it is on storage, then drop the older ones.

        Args:
            step: Updates made.
            state: Tensors and plain values that nobody changes any more: a copy, not the live training state.
        """
        self._raise()
        self.checkpointing = True
        self._work.put(lambda: self._publish_checkpoint(step, state))

    def _at(self, step: int) -> dict[str, Any]:
        return {"run": self.run, "attempt": self.attempt, "step": step, "epoch": step / self.epoch_steps}

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
                    self.stopping = self.stopping or self.launch.stopping or storage.exists(layout.stop(self.run))
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
            if rows:
                self.launch.check()
                tables.write_part(self.launch.storage, table, rows, f"{self.run}-{self.attempt:04d}")
                rows.clear()

    def _publish_snapshot(self, step: int, buffer: SnapshotBuffer, cost: dict[str, float]) -> None:
        begun = time.perf_counter()
        name = SnapshotName(step, self.attempt, checksum(buffer.tensors))
        earlier = self._earlier.get(step)
        if earlier is not None and earlier.checksum == name.checksum and not earlier.freed:
            name = earlier  # a replay came by the same state: what is there stays
        else:
            self.launch.check()
            if self._diverges(step, name):
                record = {"after_step": self._agreed_until}
                self.launch.storage.write_json(f"runs/{self.run}/replays/{self.attempt:04d}.json", record)
                self._earlier = {}
            metadata = {"run": self.run, "step": step, "attempt": self.attempt, "checksum": name.checksum}
            metadata = {key: str(value) for key, value in {**metadata, "taken_at": cost["taken_at"]}.items()}
            data = safetensors.torch.save(buffer.tensors, metadata)
            self.launch.storage.write(layout.snapshot(self.run, name), data)
        if earlier is not None and earlier.checksum == name.checksum:
            self._agreed_until = max(self._agreed_until, step)
        size = buffer.bytes
        self._free.put(buffer)
        written = time.perf_counter() - begun
        self._rows["snapshots"].append(
            self._at(step) | {"checksum": name.checksum, "bytes": size, "write_seconds": written} | cost
        )
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
        kept = layout.checkpoint(self.run, step, self.attempt)
        data = io.BytesIO()
        torch.save(dict(state), data)
        storage.write(kept, data.getvalue() + xxhash.xxh3_64_digest(data.getvalue()))
        self.checkpointing = False
        for file in storage.list(f"runs/{self.run}/checkpoints"):
            if (old := f"runs/{self.run}/checkpoints/{file}") != kept:
                storage.remove(old)
