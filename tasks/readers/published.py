"""Data sets as they are published: their files and sums, where they are looked for, who downloads them."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tangentscope.tasks.errors import MissingDataError

GIT_DIGITS = 40


@dataclass(frozen=True)
class Published:
    """The files of a published data set.

    Args:
        task: name of the task, and of the data set's folder in a data directory.
        title: what people call it.
        layout: the folder of its files below that one, as torchvision lays it out; `.` for none.
        md5: sums of the uncompressed files, by their names in that folder; those of 40 digits are git's (SHA-1), for
            what is published by git alone. None where no sum is known.
        home: where people find it.
        download: gets it from its publisher into `layout` below the given folder.
        compressed: whether a file may also be there as `.gz`.
        also: other names that the folder of its files goes by.
        dataset: which of a task's data sets this is, where it has several.
    """

    task: str
    title: str
    layout: str
    md5: Mapping[str, str | None]
    home: str
    download: Callable[[Path], object]
    compressed: bool = False
    also: tuple[str, ...] = ()
    dataset: str = ""

    @property
    def name(self) -> str:
        """What `tangentscope data` calls it: its task and, if that has several, which of them it is."""
        return f"{self.task} {self.dataset}".strip()

    def folders(self, data_dir: Path) -> list[Path]:
        """Where the files are looked for. The first is where they belong."""
        return [place / name for name in (self.layout, *self.also) for place in (data_dir / self.task, data_dir)]

    def located(self, folder: Path) -> dict[str, Path]:
        """Those of the files that are in a folder, by name."""
        endings = ("", ".gz") if self.compressed else ("",)
        paths = {name: [path for end in endings if (path := folder / f"{name}{end}").is_file()] for name in self.md5}
        return {name: found[0] for name, found in paths.items() if found}

    def folder(self, data_dir: Path | None) -> Path | None:
        """The folder that holds any of the files; None if there is none."""
        folders = self.folders(data_dir) if data_dir else []
        return next((folder for folder in folders if self.located(folder)), None)

    def missing(self, data_dir: Path | None, instead: str = "") -> MissingDataError:
        """What to say if there is no such folder; `instead` ends the sentence that says what to do."""
        files = f"{', '.join(self.md5)}{' (plain or as .gz)' if self.compressed else ''}"
        instead = f" (`tangentscope data fetch {self.name}` gets them or says where from){instead}"
        if data_dir is None:
            return MissingDataError(
                f"no data directory was given: name one (--data-dir, TANGENTSCOPE_DATA) that holds {files} in "
                f"{Path(self.task, self.layout)}{instead}"
            )
        where = " or ".join(map(str, self.folders(data_dir)))
        return MissingDataError(f"no {self.title} in {where}: expected {files}{instead}")

    def compared(self, folder: Path) -> tuple[list[str], list[str]]:
        """Which files are not in a folder, and which are there but not as published."""
        located = self.located(folder)
        strange = [
            name
            for name, path in located.items()
            if self.md5[name] and not self.is_published(name, _uncompressed(path))
        ]
        return [name for name in self.md5 if name not in located], strange

    def is_published(self, name: str, content: bytes) -> bool:
        """Whether these are known to be the (uncompressed) bytes of the published file."""
        known = self.md5[name]
        if known is not None and len(known) == GIT_DIGITS:
            return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == known
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == known


def _uncompressed(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error):
        return b""  # a damaged archive
