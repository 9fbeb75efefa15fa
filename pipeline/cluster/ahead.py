"""A Ray of this machine's own that starts while the command that will need it loads its libraries and plans.

Ray takes seconds to start, and torch to load; each keeps one core busy and waits for the other no more. Whoever has
begun it must call :func:`end`, whether or not anybody has come to need it.
"""

import os
import re
import threading
from pathlib import Path

from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError

_NAME = re.compile(r"^name: *[\"']?([^\s\"'#]+)", re.MULTILINE)

_begun: "Starting | None" = None


class Starting:
    """A Ray that is being started, by a thread of its own: its processes would end with the thread.

    Args:
        cpus: How many it has at least.
    """

    def __init__(self, cpus: int) -> None:
        from tangentscope.pipeline.cluster import own_ray  # here, before two threads load libraries at once

        self.cpus, self._error, self._ray = cpus, None, own_ray
        self._up, self._over = threading.Event(), threading.Event()
        threading.Thread(target=self._live, name="ray", daemon=True).start()

    def wait(self) -> None:
        """Return when it is up. Raises what its start raised."""
        self._up.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """End it, once it is up."""
        self._up.wait()
        self._ray.end()
        self._over.set()

    def _live(self) -> None:
        try:
            self._ray.start(self.cpus)
        except BaseException as error:
            self._error = error
        self._up.set()
        self._over.wait()


def begin(out: str, again: bool = False) -> None:
    """Start a Ray if a launch into `out` will certainly train something there; `again`: also what has failed.

    What it costs to know must be little: what lies on an object store is not looked at.
    """
    global _begun
    if _begun is None and _will_train(out, again):
        _begun = Starting(os.cpu_count() or 1)


def begun() -> bool:
    """Whether a Ray has begun to start that nobody has taken."""
    return _begun is not None


def take(cpus: int) -> Starting | None:
    """The Ray that has begun to start, which is then the caller's to end; None if there is none with so many CPUs."""
    global _begun
    if _begun is not None and _begun.cpus < cpus:
        end()
    taken, _begun = _begun, None
    return taken


def end() -> None:
    """End the Ray that has begun to start, if nobody has taken it."""
    global _begun
    if _begun is not None:
        _begun.end()
        _begun = None


def place_of(study: Path, overrides: tuple[str, ...], results: str | None = None) -> str:
    """Where a study's results go below `results`, read from its file without what takes seconds to load."""
    given = [each.removeprefix("name=") for each in overrides if each.startswith("name=")]
    found = _NAME.search(study.read_text(encoding="utf-8", errors="replace")) if study.is_file() else None
    return f"{results or 'results'}/{given[-1] if given else found[1] if found else study.stem}"


def _will_train(out: str, again: bool) -> bool:
    try:
        storage = Storage.at(out)
        if storage.local is None:
            return False
        runs = storage.read_json(layout.PLAN, {}).get("runs")
        outcomes = [storage.read_json(run_files.outcome(run["run"])) for run in runs or ()]
        return runs is None or any(o is None or (again and o["state"] != "finished") for o in outcomes)
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return False  # the command itself will say what is wrong
