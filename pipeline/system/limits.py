"""Limits of this process and this machine within which Ray and torch cannot work: told before either is loaded."""

import os
import resource
from collections.abc import Iterator

from tangentscope.pipeline.system.errors import UserError

_ADDRESSES = 8 * 2**30  # bytes that a process which loads torch and Ray reserves, most of them never used
_FILE = 2**29  # bytes of Ray's object store
_DESCRIPTORS = 1024
# What Ray puts below its temporary directory for a socket, of the 107 bytes that a socket's name may have.
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
_LONGEST = 107 - len(_SOCKET)


def check() -> None:
    """Raise UserError at the first limit that is too low."""
    for problem in problems():
        raise UserError(problem)


def problems() -> Iterator[str]:
    """What is too low, and how to raise it. The soft limit of open files is raised as far as it may be."""
    low = {
        "-v": (resource.RLIMIT_AS, _ADDRESSES, 1024, "kB of address space"),
        "-f": (resource.RLIMIT_FSIZE, _FILE, 1024, "kB in a file"),
    }
    for option, (kind, least, unit, what) in low.items():
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY and soft < least:
            yield (
                f"ulimit {option}: got {soft // unit:,} {what}, expected {least // unit:,} or more; "
                f"ulimit {option} unlimited"
            )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
            yield f"ulimit -n: got {hard} open files, expected {_DESCRIPTORS} or more; ulimit -n {4 * _DESCRIPTORS}"
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
    place = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # as Ray chooses it
    if (length := len(os.fsencode(place))) > _LONGEST:
        yield (
            f"temporary directory {place}: got {length} bytes, expected {_LONGEST} at most, for Ray's sockets; set "
            "RAY_TMPDIR=/tmp"
        )
