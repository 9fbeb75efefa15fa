"""What Ray loses when processes of its own die, and what is to be done about it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import ray
import ray.exceptions
from ray.train import ControllerError

from tangentscope.pipeline.system.errors import Lost, one_line

_CARRIERS = ("gcs_server", "raylet")


@dataclass(frozen=True)
class Carriers:
    """The processes without which a Ray of this machine's own is none; of another's Ray, nothing is known of them."""

    processes: Mapping[str, psutil.Process] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls) -> "Carriers":
        """Of the Ray that this process has started."""
        children = ((_name(child), child) for child in psutil.Process().children())
        return cls({name: child for name, child in children if name in _CARRIERS})

    def check(self) -> None:
        """Raise Lost if one of them has died. Ray itself takes a minute to see that of its GCS."""
        if dead := self._dead():
            raise Lost(f"its {dead[0]} has ended")

    def end_if_lost(self) -> bool:
        """End what is left of a Ray that has lost one of them; False if it has not.

        It would not answer: saying goodbye to it takes a minute, or ends this process.
        """
        if not self._dead():
            return False
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return True

    def _dead(self) -> list[str]:
        return [name for name, process in self.processes.items() if _name(process) is None]


def _name(process: psutil.Process) -> str | None:
    """Of a process that is alive; None of one that has ended, whether or not its parent has taken notice."""
    try:
        return process.name() if process.is_running() and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


@contextmanager
def lost_with_ray() -> Iterator[None]:
    """In the block, a call that fails because Ray has died raises Lost."""
    try:
        yield
    except ray.exceptions.RayTaskError:  # the code that was called has failed
        raise
    except ray.exceptions.RayError as error:
        raise Lost(one_line(error)) from error


def starts_again(error: Exception) -> bool:
    """Whether a worker group is started again after what ended it: a death beside its workers, not of one of them.

    Ray Train starts dead workers again by itself, and gives up when that has been in vain for each run. What is no
    death would come again.
    """
    return isinstance(error, (ray.exceptions.RayActorError, ControllerError))
