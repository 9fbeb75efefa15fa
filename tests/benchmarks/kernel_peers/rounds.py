"""Ways of one cell in turns: a machine that changes its speed meanwhile changes it for all of them.

Every way stays in a process of its own, and in each round all have a turn, one after another; what counts is the ratio
within a round. Every second round goes backwards.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from threading import Timer
from typing import TypedDict

from kernel_peers.environments import Environment
from kernel_peers.processes import Record, Settings, Task, asked_of, fingerprint, finite, fresh_process, seconds


class Turns(TypedDict):
    """Of one way: seconds of a call in each round, the median of its turn."""

    peer: str
    variant: str
    seconds: list[float]


CLOSE = 1.5
"""Another peer's way is given turns if it took this much longer than the fastest at most."""


def contenders(records: dict[str, list[Record]], ours: str) -> list[Record]:
    """Of each peer's records on one cell: our fastest, and the others' fastest with all that came close."""
    own = sorted(finite(records.get(ours, [])), key=seconds)[:1]
    others = [record for peer, ways in records.items() if peer != ours for record in finite(ways)]
    fastest = min(map(seconds, others), default=0.0)
    close = [record for record in others if seconds(record) < CLOSE * fastest]
    return own + close if own and close else []


def in_turns(
    records: dict[str, list[Record]],
    ours: str,
    environments: dict[str, Environment],
    settings: Settings,
    rounds: int,
    cell: Path,
    folder: Path,
    fresh: bool,
) -> list[Turns]:
    """Of our fastest way and the contenders, ours first; none where one of them is missing, or ends before its turn.

    Kept in ``folder``, and not done again for the same ways, settings and sources.
    """
    chosen = contenders(records, ours) if rounds else []
    if not chosen:
        return []
    tasks = [Task(each["cell"], each["sizes"], each["peer"], each["variant"]) for each in chosen]
    path = folder / f"{tasks[0].cell}--turns.json"
    asked = [asdict(settings), rounds, [[task.peer, task.variant, fingerprint(task)] for task in tasks]]
    if not fresh and path.exists() and (known := json.loads(path.read_text()))["asked"] == asked:
        return known["turns"]
    turns = [Turns(peer=task.peer, variant=task.variant, seconds=[]) for task in tasks]
    try:
        with ExitStack() as processes:
            workers = [
                processes.enter_context(_process(task, environments[task.peer], settings, cell)) for task in tasks
            ]
            pairs = list(zip(turns, workers, strict=True))
            for _ in range(rounds):
                for turn, worker in pairs:
                    turn["seconds"].append(median(_calls(worker, settings.limit)))
                pairs.reverse()
    except (EOFError, BrokenPipeError):
        print(f"{tasks[0].cell:<12} no turns: a process ended, or took more than {settings.limit:.0f} s", flush=True)
        return []
    path.write_text(json.dumps({"asked": asked, "turns": turns}, indent=1))
    return turns


@contextmanager
def _process(task: Task, environment: Environment, settings: Settings, cell: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker that has made its first call."""
    job = asked_of(task, settings, cell) | {"turns": True}
    words, surroundings = fresh_process("worker", json.dumps(job), threads=settings.threads, environment=environment)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, **surroundings, **pipes) as process:
        try:
            _calls(process, settings.limit)
            yield process
        finally:
            process.kill()


def _calls(process: subprocess.Popen[str], limit: float) -> list[float]:
    """Let a worker have a turn; seconds of its calls. EOFError or BrokenPipeError where it ends, or has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    watch = Timer(limit, process.kill)
    watch.start()
    try:
        print(file=process.stdin, flush=True)
        answer = process.stdout.readline()
    finally:
        watch.cancel()
    if not answer:
        raise EOFError
    return json.loads(answer)
