import errno
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from object_storage import object_store
from storage_race import NAMES, create_all

from tangentscope.pipeline.store import files as storage_module
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError


@pytest.fixture(params=["local", "file URI", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "local":
        return Storage.at(tmp_path / "study")
    if request.param == "file URI":
        return Storage.at(f"file://{tmp_path}/study/")
    return object_store(monkeypatch)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_what_is_written_is_read_listed_and_removed(storage: Storage):
    assert storage.list("a/b") == []
    assert not storage.exists("a/b/two")
    storage.write("a/b/two", b"2")
    storage.write("a/b/one", b"1")
    storage.write("a/b/one", b"11")
    storage.write("a/b/deeper/three", b"")
    assert storage.list("a/b") == ["one", "two"]
    assert storage.read("a/b/one") == b"11"
    assert storage.read("a/b/deeper/three") == b""
    assert storage.exists("a/b/one")
    storage.remove("a/b/one")
    storage.remove("a/b/one")
    assert storage.list("a/b") == ["two"]
    with pytest.raises(FileNotFoundError):
        storage.read("a/b/one")
    with pytest.raises(FileNotFoundError):
        storage.read("nowhere/one")


def test_a_file_is_given_another_name_and_read_from_its_start(storage: Storage):
    storage.write("a/one", b"123456")
    storage.write("a/two", b"")
    storage.move("a/one", "a/two")
    assert storage.list("a") == ["two"]
    assert storage.read_start("a/two", 4) == b"1234"
    assert storage.read_start("a/two", 100) == b"123456"
    with pytest.raises(FileNotFoundError):
        storage.read_start("a/one", 4)


def test_a_name_is_created_once(tmp_path: Path):
    storage = Storage.at(tmp_path)
    assert storage.create("launches/1", b"first")
    assert not storage.create("launches/1", b"second")
    assert storage.read("launches/1") == b"first"
    assert storage.list("launches") == ["1"]


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


def without(monkeypatch: pytest.MonkeyPatch, links: bool, renames: bool) -> None:
    """A file system that lacks operations, as vfat lacks hard links and gcsfuse renames that replace nothing too."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *names: refuse(errno.EPERM))
    if not renames:
        monkeypatch.setattr(storage_module, "_rename_new", lambda *names: refuse(errno.EINVAL))


@pytest.mark.parametrize("renames", [True, False])
def test_a_name_is_created_once_where_there_are_no_hard_links(
    renames: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    without(monkeypatch, links=False, renames=renames)
    storage = Storage.at(tmp_path)
    storage.check_writable()
    assert storage.create("launches/1", b"first")
    assert not storage.create("launches/1", b"second")
    assert storage.read("launches/1") == b"first"
    assert files(tmp_path) == ["launches/1"]
    with ThreadPoolExecutor(8) as pool:
        for name in range(20):
            won = list(pool.map(lambda who, name=name: storage.create(f"claims/{name}", b"%d" % who), range(8)))
            assert sum(won) == 1
            assert storage.read(f"claims/{name}") == b"%d" % won.index(True)


def test_a_place_where_names_are_not_created_once_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(storage_module, "_put_in_place", lambda temporary, target: temporary.replace(target))
    with pytest.raises(UserError, match="cannot be written: a file was created 2 times under one name, expected once"):
        Storage.at(tmp_path).check_writable()


def test_an_object_store_does_not_promise_to_create_a_name_once(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(NotImplementedError, match="memory://bucket/study/launches/1: an object store creates nothing"):
        object_store(monkeypatch).create("launches/1", b"first")


def test_json(storage: Storage):
    storage.write_json("a/plan.json", {"b": [1, None], "a": Path("x")})
    assert storage.read_json("a/plan.json") == {"a": "x", "b": [1, None]}
    assert storage.read_json("a/other.json") is None
    assert storage.read_json("a/other.json", 3) == 3


def test_a_place_that_can_be_written_is_left_empty(storage: Storage):
    storage.check_writable()
    assert storage.list("") == []


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Storage.at("results/a").local == tmp_path / "results" / "a"
    assert Storage.at("results/a").path("report.html") == str(tmp_path / "results" / "a" / "report.html")
    assert Storage.at(f"file://{tmp_path}/a").local == tmp_path / "a"
    bucket = Storage.at("s3://bucket/studies/a/")
    assert bucket.local is None
    assert bucket.path("report.html") == "s3://bucket/studies/a/report.html"


def test_a_uri_nobody_knows():
    with pytest.raises(UserError, match="nonsense://bucket"):
        Storage.at("nonsense://bucket").write("a", b"")


def fail(*args: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("target", "name"), [(os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_cut_short_leaves_what_was_there(
    target: Any, name: str, before: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    storage = Storage.at(tmp_path)
    if before is not None:
        storage.write("tables/a", before)
    monkeypatch.setattr(target, name, fail)
    with pytest.raises(OSError, match="No space left"):
        storage.write("tables/a", b"new")
    assert files(tmp_path) == ([] if before is None else ["tables/a"])
    assert before is None or storage.read("tables/a") == before


@pytest.mark.parametrize("name", ["fsync", "link"])
def test_a_creation_cut_short_leaves_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space left"):
        Storage.at(tmp_path).create("launches/1", b"claim")
    assert files(tmp_path) == []


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []

    def spy(target: Any, name: str) -> None:
        real = getattr(target, name)
        monkeypatch.setattr(target, name, lambda *args: (done.append(name), real(*args))[1])

    spy(os, "fsync")
    spy(Path, "replace")
    spy(os, "link")
    Storage.at(tmp_path).write("a", b"a")
    assert done == ["fsync", "replace", "fsync"], "file, name, directory"
    done.clear()
    Storage.at(tmp_path).create("b", b"b")
    assert done == ["fsync", "link", "fsync"]


def test_a_file_that_is_being_written_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    storage = Storage.at(tmp_path)
    seen: list[Any] = []

    def look(temporary: Path, target: Path) -> None:
        seen.append((storage.list("tables"), files(tmp_path)))

    monkeypatch.setattr(Path, "replace", look)
    storage.write("tables/a", b"a")
    [(listed, there)] = seen
    assert listed == []
    assert len(there) == 1


def test_of_many_processes_that_create_a_name_one_wins(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(3, mp_context=context) as pool:
        barrier = manager.Barrier(3)
        won = list(pool.map(create_all, [str(tmp_path)] * 3, range(3), [barrier] * 3))
    storage = Storage.at(tmp_path)
    assert sorted(name for names in won for name in names) == list(range(NAMES))
    for who, names in enumerate(won):
        assert {storage.read(f"claims/{name}") for name in names} <= {f"{who}".encode() * 1000}
    assert files(tmp_path) == sorted(f"claims/{name}" for name in range(NAMES))


def test_a_file_in_the_place_of_an_output_is_told_without_writing(tmp_path: Path):
    (tmp_path / "file").write_text("no directory")
    for name in ("file", "file/below/it"):
        with pytest.raises(UserError, match=r"cannot be written: .*/file is a file; give another --out"):
            Storage.at(tmp_path / name).check_place()
    Storage.at(tmp_path / "new" / "study").check_place()
    Storage.at("memory://study").check_place()
    assert files(tmp_path) == ["file"]


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(UserError, match=r"file/study cannot be written: Not a directory; give another --out"):
        Storage.at(tmp_path / "file" / "study").check_writable()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left on device"):
        Storage.at(tmp_path / "full").check_writable()


@pytest.mark.parametrize("place", ["", " ", "/", "gs://", "s3:///"])
def test_a_place_that_is_none(place: str):
    with pytest.raises(UserError, match="no place; give a directory or a URI"):
        Storage.at(place)


def test_damaged_json_is_named(tmp_path: Path):
    storage = Storage.at(tmp_path)
    storage.write("plan.json", b'{"study": ')
    with pytest.raises(UserError, match=r"plan\.json: damaged"):
        storage.read_json("plan.json")


def test_options_of_a_uri_stay_behind_the_names():
    storage = Storage.at("s3://bucket/study/?endpoint_override=127.0.0.1:9&scheme=http")
    assert storage.uri == "s3://bucket/study?endpoint_override=127.0.0.1:9&scheme=http"
    assert storage.path("a/b") == "s3://bucket/study/a/b?endpoint_override=127.0.0.1:9&scheme=http"
    assert storage.local is None


def test_a_uri_with_a_key_in_it_is_refused():
    with pytest.raises(UserError, match=r"output s3://…: holds a name or key; leave it out") as refused:
        Storage.at("s3://me:secret@bucket/study")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("place", ["s3:/x", "s3:x", "gs:/b/x", "HDFS:/x", "file:/tmp/x", "https:/x"])
def test_a_uri_of_one_slash_is_no_folder(place: str):
    with pytest.raises(UserError, match=rf'output "{place}": a folder ".+:"\? a URI begins with .+://'):
        Storage.at(place)


def test_a_folder_may_have_a_colon_and_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage.at("~/x").uri == f"{tmp_path}/x"
    assert Storage.at("/a/s3:/x").uri == "/a/s3:/x"
    assert Storage.at("run:3").local == Path("run:3").absolute()


def test_a_file_system_that_is_not_installed_is_told_in_one_line():
    for uri in ("hdfs://nowhere:9000/x", "viewfs://x/y", "ftp://a/b"):
        with pytest.raises(UserError, match=f"storage {uri}: .*; give a local path or a URI pyarrow knows"):
            Storage.at(uri).check_writable()
