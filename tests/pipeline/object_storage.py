"""Storage on a file system in memory that, as object stores do, needs no directories made and creates nothing alone."""

from typing import Any

import pyarrow.fs as pafs
import pytest

from tangentscope.pipeline.store.files import Storage


def object_store(monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty one, for the length of a test."""
    memory = pafs.PyFileSystem(Flat())
    monkeypatch.setattr("tangentscope.pipeline.store.files._opened", lambda uri: (memory, uri.partition("://")[2]))
    return Storage.at("memory://bucket/study/")


class Flat(pafs.FSSpecHandler):
    def __init__(self) -> None:
        import fsspec.implementations.memory as memory

        super().__init__(memory.MemoryFileSystem(skip_instance_cache=True))
        self.fs.store, self.fs.pseudo_dirs = {}, [""]

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return super().open_output_stream(path, metadata)
