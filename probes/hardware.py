"""Whose processor this is: MKL, by which torch multiplies and solves, is fastest on those of its maker."""

import platform
from functools import cache
from pathlib import Path

import torch


@cache
def mkl_is_at_home() -> bool:
    """Whether torch has MKL, and the processor is of MKL's maker; on others it goes its generic way."""
    about = Path("/proc/cpuinfo")
    maker = about.read_text() if about.exists() else platform.processor()
    return torch.backends.mkl.is_available() and "GenuineIntel" in maker
