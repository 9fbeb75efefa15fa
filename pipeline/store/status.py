"""What the hub says of itself while a launch goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HubStatus:
    """A hub's counts, and its troubles.

    Args:
        answers: Whether it has answered; if not, it is starting or gone, and the rest tells nothing.
        groups: Worker groups that have begun.
        waiting: Snapshots that wait to be measured.
        in_hand: Snapshots that probers have in hand.
        backlog: Seconds that one prober would need for what waits, as far as is known.
        measured: Values that are on storage, by run.
        failed: Values that were given up, by run.
        trouble: With storage.
        halted: Why no more runs are dealt, if that is so.
    """

    answers: bool = True
    groups: int = 0
    waiting: int = 0
    in_hand: int = 0
    backlog: float = 0.0
    measured: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    trouble: str | None = None
    halted: str | None = None


NO_ANSWER = HubStatus(answers=False)
