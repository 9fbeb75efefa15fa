"""Which sockets a launch and all that it starts listen on."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

import psutil

_LISTENING = "0A"  # in the kernel's tables


class Socket(NamedTuple):
    """A socket that listens, and the title of the process that it belongs to."""

    address: IPv4Address | IPv6Address
    port: int
    process: str

    @property
    def on_loopback(self) -> bool:
        mapped = self.address.ipv4_mapped if isinstance(self.address, IPv6Address) else None
        return (mapped or self.address).is_loopback


@dataclass
class Family:
    """A process and all that it has started, those too whose parents have died: their sessions are its own."""

    root: int
    sessions: set[int] = field(default_factory=set)

    def look(self) -> set[Socket]:
        """What they listen on now."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.root)
            for process in (root, *root.children(recursive=True)):
                with suppress(OSError):
                    self.sessions.add(os.getsid(process.pid))
        places, seen = _places(), set()
        for pid in filter(self._is_member, psutil.pids()):
            with suppress(OSError, psutil.Error):  # it has just ended
                title = " ".join(psutil.Process(pid).cmdline()).strip()
                seen |= {Socket(*places[link], title) for link in _open_files(pid) & places.keys()}
        return seen

    def _is_member(self, pid: int) -> bool:
        try:
            return os.getsid(pid) in self.sessions
        except OSError:
            return False


def _open_files(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed in the meantime
            found.add(str(each.readlink()))
    return found


def _places() -> dict[str, tuple[IPv4Address | IPv6Address, int]]:
    """Address and port of every socket of this machine that listens, by what links to it are called."""
    places = {}
    for protocol in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            address, _, port = local.partition(":")
            if state == _LISTENING:
                places[f"socket:[{inode}]"] = _address(address), int(port, 16)
    return places


def _address(text: str) -> IPv4Address | IPv6Address:
    """As the kernel writes it: words of four bytes, each in the machine's order."""
    words = [bytes.fromhex(text[k : k + 8])[::-1] for k in range(0, len(text), 8)]
    return IPv4Address(words[0]) if len(words) == 1 else IPv6Address(b"".join(words))
