"""What a process holds and has held, on the host or on a GPU, and how to wait until a GPU is done."""

import contextlib
import re
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Meter:
    """now, peak: bytes held, and the most since ``forget_peak`` (or since the process began where that was refused)."""

    now: Callable[[], int]
    peak: Callable[[], int]
    forget_peak: Callable[[], None]
    wait: Callable[[], None]


def on(device: str) -> Meter:
    """Resident memory of this process, or the memory that torch's tensors have on the GPU."""
    if device == "cpu":
        return Meter(lambda: _status("VmRSS"), lambda: _status("VmHWM"), _forget_peak, lambda: None)
    import torch

    gpu = torch.cuda
    return Meter(gpu.memory_allocated, gpu.max_memory_allocated, gpu.reset_peak_memory_stats, gpu.synchronize)


def _forget_peak() -> None:
    """Start the high-water mark anew, where the kernel offers it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    """A field of this process's status in bytes; the peak where there is no /proc."""
    try:
        return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    except (OSError, TypeError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
