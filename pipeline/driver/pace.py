"""How fast a launch is and how long it will still take, from storage alone."""

import time
from dataclasses import dataclass

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.counts import published_since
from tangentscope.pipeline.store.launch import claimed_at
from tangentscope.pipeline.store.reader import Store

_RECENT_SECONDS = 300.0  # over which the rate of measuring is taken


@dataclass(frozen=True)
class Pace:
    """Values measured a second, lately; and seconds to the end, None while nothing tells."""

    values_per_second: float
    seconds_left: float | None


def of_launch(store: Store) -> Pace | None:
    """The pace of the launch that holds the study; None if nobody holds it."""
    if (begun := claimed_at(store.storage, store.plan.launch)) is None:
        return None
    now = time.time()
    since = max(begun, now - _RECENT_SECONDS)
    rate = published_since(store.storage, since) / max(now - since, 1e-9)
    values = sum(counts.planned - counts.measured - counts.failed for counts in store.counts().values())
    training = _training_left(store, now - begun)
    if training is None or (values and not rate):
        return Pace(rate, None)
    return Pace(rate, max(training, values / rate if values else 0.0))


def _training_left(store: Store, elapsed: float) -> float | None:
    """Seconds of training left, at the rate at which this launch has trained so far; None before it has."""
    outcomes = store.outcomes()
    done = left = 0.0
    for run in store.runs:
        attempts = run_files.attempts(store.storage, run.id)
        ours = [attempt.resumed_at for attempt in attempts if attempt.launch == store.plan.launch]
        ended = run.id in outcomes
        if ended and not ours:
            continue
        taken = [name.step for name in run_files.current_snapshots(store.storage, run.id)] if attempts else []
        reached = run.steps if ended else max([*taken, *ours], default=0)
        step = run.parameters * run.batch_size  # its cost, as the plan's order has it
        done += step * (reached - min(ours)) if ours else 0.0
        left += step * (run.steps - reached)
    if not left:
        return 0.0
    return elapsed * left / done if done else None
