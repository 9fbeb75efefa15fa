"""How a run's training ended, as its ``outcome.json`` says; there is none while it has not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self

State = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True)
class Ending:
    """What whoever trained a run knows of its end.

    Args:
        state: How it ended.
        cause: Of a failure or a stop.
        traceback: Of a failure.
        costs: By the names that they have in :class:`Outcome`.
    """

    state: State
    cause: str | None = None
    traceback: str | None = None
    costs: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a training ended and what it cost. Times in seconds, memory in bytes; None where the file does not say.

    Args:
        state: How it ended.
        cause: Of a failure or a stop.
        traceback: Of a failure.
        ended_at, started_at: Seconds since 1970; the start is that of the last attempt.
        seconds: Between them.
        attempt: The number of the last attempt.
        host, device, workers: Where and by how many it was trained.
        steps: That the last attempt made.
        training_seconds: Of the optimisation steps alone.
        evaluate_seconds: Of taking loss and score.
        copy_seconds, wait_seconds: For which snapshots held training up: to be copied, and for a storage that was
            behind.
        checkpoint_seconds: Of handing checkpoints over.
        snapshots, checkpoints: How many were taken.
        peak_memory: Of the process.
        together: How many runs were trained in one pass.
        agent_steps: Actions in games.
    """

    state: State
    ended_at: float
    cause: str | None = None
    traceback: str | None = None
    started_at: float | None = None
    seconds: float | None = None
    attempt: int | None = None
    host: str | None = None
    device: str | None = None
    workers: int | None = None
    steps: int | None = None
    training_seconds: float | None = None
    evaluate_seconds: float | None = None
    copy_seconds: float | None = None
    wait_seconds: float | None = None
    checkpoint_seconds: float | None = None
    snapshots: int | None = None
    checkpoints: int | None = None
    peak_memory: int | None = None
    together: int | None = None
    agent_steps: int | None = None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The content of ``outcome.json``; what later versions may have added is left out."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in names})

    def to_json(self) -> dict[str, Any]:
        """What ``outcome.json`` is to hold: only what is known, and a cause in any case."""
        always = {"cause", *(("traceback",) if self.state == "failed" else ())}
        return {name: value for name, value in asdict(self).items() if value is not None or name in always}

    def ended(self, ending: Ending) -> Self:
        """The outcome with what `ending` says."""
        return replace(self, state=ending.state, cause=ending.cause, traceback=ending.traceback, **ending.costs)
