"""Text files with the line ends of another system, or a byte-order mark, are the same data."""

import codecs
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from published_files import written

from tangentscope.tasks import TASKS

FIELDS = {"greek": {"partial": True}, "molecules": {"partial": True}, "auto_mpg": {"source": "uci"}}
WAYS: dict[str, Callable[[bytes], bytes]] = {
    "line ends of Windows": lambda text: text.replace(b"\n", b"\r\n"),
    "line ends of old Macs": lambda text: text.replace(b"\n", b"\r"),
    "a byte-order mark": lambda text: codecs.BOM_UTF8 + text,
    "both": lambda text: codecs.BOM_UTF8 + text.replace(b"\n", b"\r\n"),
}


def rewrite(folder: Path, way: Callable[[bytes], bytes]) -> int:
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes()
        packed = path.suffix == ".gz"
        text = way(gzip.decompress(content) if packed else content)
        path.write_bytes(gzip.compress(text) if packed else text)
    return len(files)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FIELDS)
def test_a_text_file_of_another_system_is_the_same_data(name: str, way: str, tmp_path: Path):
    if name == "molecules":
        pytest.importorskip("rdkit")
    folder = written(name, tmp_path)
    task = TASKS[name].model_validate({"name": name, **FIELDS[name]})
    fingerprint = task.load(tmp_path).fingerprint
    assert rewrite(folder, WAYS[way])
    assert task.load(tmp_path).fingerprint == fingerprint
