"""Whose solver is asked, and how many threads it has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from probes import solvers

ahead = solvers._torch_is_ahead.__wrapped__


@pytest.mark.parametrize(
    ("maker", "expected"), [("GenuineIntel", torch.backends.mkl.is_available()), ("AuthenticAMD", False)]
)
@pytest.mark.parametrize("file", [True, False], ids=["told by a file", "told by Python"])
def test_mkl_is_asked_on_processors_of_its_maker(
    maker: str, expected: bool, file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    about = tmp_path / "cpuinfo"
    if file:
        about.write_text(f"vendor_id : {maker}")
    monkeypatch.setattr(solvers, "Path", lambda path: about)
    monkeypatch.setattr("platform.processor", lambda: "" if file else f"x86 Family 6, {maker}")
    assert ahead("cpu") == expected
    assert ahead("cuda")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["eigvalsh", "eigh"])
def test_numpy_has_the_threads_of_torch(name: str, threads: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(solvers, "_torch_is_ahead", lambda device: False)
    seen: list[int] = []
    own = getattr(np.linalg, name)

    def solve(matrix: np.ndarray):
        seen.extend(pool["num_threads"] for pool in threadpool_info() if "openblas" in pool["internal_api"])
        return own(matrix)

    monkeypatch.setattr(np.linalg, name, solve)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        solvers.eigenvalues(torch.eye(3).double()[None])
        solvers.eigensystem(torch.eye(3).double())
    finally:
        torch.set_num_threads(before)
    assert set(seen) <= {threads}
    assert seen or not any("openblas" in pool["internal_api"] for pool in threadpool_info())
