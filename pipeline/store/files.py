"""Files of a study, on this machine or on any pyarrow file system.

Storage is the truth: whatever is listed here was written completely. On a local path that is a temporary name, fsync
and rename; on an object store one PUT. Nothing is ever changed in place, except for small status files, replaced whole.
"""

import ctypes
import errno
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.fs as pafs

from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.system.redaction import secret_options

# What a file system says of an operation that it does not have.
_CANNOT = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}
_LIBC = ctypes.CDLL(None, use_errno=True)
_NO_REPLACE = 1  # renameat2's flag
_ONE_SLASH = re.compile(r"(s3|gs|gcs|hdfs|viewfs|abfss?|https?|file):(?!//)", re.IGNORECASE)
_RETRY_SECONDS = 30  # after which Google's storage gives up; by itself after a quarter of an hour
_TRIES = 10  # of reading a file that may change
_TEMPORARY = re.compile(r"\.(\d+)-\d+$")  # process and thread of the writer, see `_staged`


@dataclass(frozen=True)
class Storage:
    """The root of a study's files. Names below it are relative, with forward slashes."""

    uri: str

    @classmethod
    def at(cls, place: str | Path) -> "Storage":
        """Storage at a local path (made absolute) or at a URI that pyarrow knows, such as ``s3://bucket/studies/mnist``.

        Options stand behind a question mark: ``s3://bucket/study?endpoint_override=127.0.0.1:9000&scheme=http``. Keys
        come from the environment, never from the URI: it is recorded with every result.
        """
        text = str(place).removeprefix("file://")
        if match := _ONE_SLASH.match(text):
            mend = f"a URI begins with {match[1]}://, such as s3://bucket/studies/mnist"
            raise UserError(f'output "{text}": a folder "{match[1]}:"? {mend}')
        scheme, found, rest = text.partition("://")
        if not (rest if found else text).strip("/ "):
            raise UserError(f'output "{text}": no place; give a directory or a URI such as s3://bucket/studies/mnist')
        if not found:
            return cls(str((Path(text).expanduser() if text.startswith("~/") else Path(text)).absolute()))
        if "@" in rest.partition("/")[0]:
            raise UserError(f"output {scheme}://…: holds a name or key; leave it out and set it in the environment")
        if secrets := secret_options(rest):
            mend = f"leave {'it' if len(secrets) == 1 else 'them'} out and set AWS_ACCESS_KEY_ID and the like"
            raise UserError(f"output {scheme}://…: the URI, which is recorded, holds {', '.join(secrets)}; {mend}")
        place, query, options = rest.partition("?")
        return cls(f"{scheme}://{place.rstrip('/')}{query}{options}")

    @cached_property
    def local(self) -> Path | None:
        """The local directory, or None on an object store."""
        return None if "://" in self.uri else Path(self.uri)

    def _filesystem(self) -> tuple[pafs.FileSystem, str]:
        if self.local is not None:
            return pafs.LocalFileSystem(), self.uri
        return _opened(self.uri)

    def path(self, name: str) -> str:
        """The full path or URI of a name."""
        if self.local is not None:
            return f"{self.uri}/{name}"
        place, query, options = self.uri.partition("?")
        return f"{place}/{name}{query}{options}"

    def write(self, name: str, data: bytes) -> None:
        """Publish a whole file. It is durable and visible when this returns, and never visible in part."""
        if self.local is None:
            filesystem, root = self._filesystem()
            with filesystem.open_output_stream(f"{root}/{name}") as stream:
                stream.write(data)
            return
        with _staged(self.local / name, data) as (temporary, target):
            temporary.replace(target)

    def create(self, name: str, data: bytes) -> bool:
        """Publish a file unless its name is taken; False if it was. The winner of a race is unique.

        Raises:
            NotImplementedError: Not a local path: pyarrow cannot tell an object store to write only what is not there.
        """
        if self.local is None:
            raise NotImplementedError(f"{self.path(name)}: an object store creates nothing exclusively")
        try:
            with _staged(self.local / name, data) as (temporary, target):
                _put_in_place(temporary, target)
        except FileExistsError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        if self.local is not None:
            return (self.local / name).read_bytes()
        filesystem, root = self._filesystem()
        with filesystem.open_input_file(f"{root}/{name}") as stream:
            return stream.read()

    def read_start(self, name: str, size: int) -> bytes:
        """The first bytes of a file, `size` at most. Raises FileNotFoundError."""
        filesystem, root = self._filesystem()
        with filesystem.open_input_file(f"{root}/{name}") as stream:
            return stream.read(size)

    def exists(self, name: str) -> bool:
        """Whether a file or directory of this name is there."""
        if self.local is not None:
            return (self.local / name).exists()
        filesystem, root = self._filesystem()
        return filesystem.get_file_info(f"{root}/{name}").type != pafs.FileType.NotFound

    def list(self, directory: str) -> list[str]:
        """Names of the files right below a directory, sorted; empty if there is no such directory."""
        if self.local is not None:
            try:
                with os.scandir(f"{self.uri}/{directory}") as entries:
                    return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())
            except FileNotFoundError:
                return []
        filesystem, root = self._filesystem()
        found = filesystem.get_file_info(pafs.FileSelector(f"{root}/{directory}", allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.File)

    def move(self, name: str, to: str) -> None:
        """Give a file another name, in place of what has it. Raises FileNotFoundError."""
        filesystem, root = self._filesystem()
        filesystem.move(f"{root}/{name}", f"{root}/{to}")

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is no error."""
        if self.local is not None:
            (self.local / name).unlink(missing_ok=True)
            return
        filesystem, root = self._filesystem()
        if self.exists(name):
            filesystem.delete_file(f"{root}/{name}")

    def size(self, name: str) -> int:
        """Bytes of a file; 0 if there is none."""
        filesystem, root = self._filesystem()
        return filesystem.get_file_info(f"{root}/{name}").size or 0

    def leftovers(self) -> tuple[str, ...]:
        """Temporary files of writers on this machine that have died. Object stores keep none."""
        if self.local is None:
            return ()
        found = []
        for path in self.local.rglob(".*"):
            match = _TEMPORARY.search(path.name)
            if match and path.is_file() and not psutil.pid_exists(int(match[1])):
                found.append(path.relative_to(self.local).as_posix())
        return tuple(sorted(found))

    def write_json(self, name: str, value: Any) -> None:
        """Publish a value as JSON."""
        self.write(name, _text(value).encode())

    def read_json(self, name: str, default: Any = None) -> Any:
        """A JSON file's value, or the default if there is none. Raises UserError if it is damaged."""
        problem: Exception | None = None
        # pyarrow asks an object store for a file's size and then for so many bytes: of a status file that is replaced
        # or removed in between it gets an error, a part, or the whole and more.
        for _ in range(1 if self.local else _TRIES):
            try:
                return json.loads(self.read(name))
            except FileNotFoundError:
                return default
            except (ValueError, RecursionError) as error:
                problem = UserError(f"{self.path(name)}: damaged ({error}); restore it or remove it")
            except IsADirectoryError:
                raise UserError(f"{self.path(name)}: a directory, expected a file; remove it") from None
            except OSError as error:
                problem = error
        assert problem is not None
        raise problem

    def check_place(self) -> None:
        """Raise UserError if a file stands where the directory, or one above it, would be; writes nothing."""
        there = (
            next((path for path in (self.local, *self.local.parents) if path.exists()), None) if self.local else None
        )
        if there is not None and not there.is_dir():
            raise UserError(f"output {self.uri} cannot be written: {there} is a file; give another --out")

    def check_writable(self) -> None:
        """Raise UserError if nothing can be written here."""
        try:
            self.write(".probe", b"")
            self.remove(".probe")
            if self.local is not None:  # which is how a launch claims it
                created = [self.create(".probe", b""), self.create(".probe", b"")]
                self.remove(".probe")
                if created != [True, False]:
                    raise OSError(f"a file was created {sum(created)} times under one name, expected once")
        except OSError as error:
            raise UserError(
                f"output {self.uri} cannot be written: {error.strerror or error}; give another --out"
            ) from error


def _text(value: Any) -> str:
    """A value as JSON, a line a field and a line an item of a list: half the size of full indentation, and faster."""
    dumps = partial(json.dumps, sort_keys=True, default=str)
    if not isinstance(value, dict):
        return dumps(value)
    lines = []
    for key, field in sorted(value.items()):
        items = ",\n  ".join(map(dumps, field)) if isinstance(field, list) else ""
        lines.append(f" {json.dumps(key)}: " + (f"[\n  {items}\n ]" if items else dumps(field)))
    return "{\n" + ",\n".join(lines) + "\n}"


@lru_cache(maxsize=8)
def _opened(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system behind a URI and the path there; kept, since a connection takes longer than what it carries."""
    if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in uri:
        uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={_RETRY_SECONDS}"
    try:
        return pafs.FileSystem.from_uri(uri)
    except Exception as error:
        raise UserError(f"storage {uri}: {error}; give a local path or a URI pyarrow knows") from error


def _put_in_place(temporary: Path, target: Path) -> None:
    """Publish a whole file under a name; FileExistsError if that is taken. Of several at once one succeeds."""
    try:
        os.link(temporary, target)
        return
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    try:  # no hard links: vfat, exFAT
        _rename_new(temporary, target)
        return
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    # Neither: gcsfuse, which shows a file to others once it is closed. Elsewhere the content comes after the name.
    data = temporary.read_bytes()
    with target.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename a file unless the new name is taken; FileExistsError if it is."""
    rename = getattr(_LIBC, "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    here = -100  # AT_FDCWD: names from the working directory; absolute ones do not care
    if rename(here, os.fsencode(temporary), here, os.fsencode(target), _NO_REPLACE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


@contextmanager
def _staged(target: Path, data: bytes) -> Iterator[tuple[Path, Path]]:
    """The data in a durable temporary file beside its target; the block puts it in place, durable when it ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # The dot keeps a half-written file out of every listing; the thread id keeps two writers apart.
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary, target
    finally:
        temporary.unlink(missing_ok=True)
    _fsync_directory(target.parent)


def _fsync_directory(directory: Path) -> None:
    # Without it a power cut can lose the rename although the file's bytes are on disk.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:  # some cannot for directories, and need not
            raise
    finally:
        os.close(descriptor)
