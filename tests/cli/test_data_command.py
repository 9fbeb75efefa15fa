"""`tangentscope data`: where data sets are looked for, and getting them."""

from pathlib import Path

from command_line import Command


def test_data_where_and_fetch(command: Command, tmp_path: Path):
    said = command("data", "where", "auto_mpg", "--data-dir", tmp_path)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0].startswith("ok       auto_mpg: Auto MPG, 314 train and 78 test cars")
    folder = tmp_path / "mnist/MNIST/raw"
    folder.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"short")
    assert command("data", "where", "--data-dir", tmp_path).code == 1
    assert "t10k-labels-idx1-ubyte not as published" in command("data", "fetch", "mnist", "--data-dir", tmp_path).err
