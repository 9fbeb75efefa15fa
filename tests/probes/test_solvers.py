"""Whose solver is asked, and with how many threads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from tangentscope.probes import hardware
from tangentscope.probes.spectra import eigensolvers


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
    monkeypatch.setattr(hardware, "Path", lambda path: about)
    monkeypatch.setattr(eigensolvers, "mkl_is_at_home", hardware.mkl_is_at_home.__wrapped__)
    monkeypatch.setattr("platform.processor", lambda: "" if file else f"x86 Family 6, {maker}")
    assert eigensolvers._torch_is_ahead("cpu", threads=1) == expected
    assert eigensolvers._torch_is_ahead("cpu", threads=2)
    assert eigensolvers._torch_is_ahead("cuda", threads=1)


@pytest.mark.parametrize("name", ["eigvalsh", "eigh"])
def test_numpy_has_one_thread(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(eigensolvers, "_torch_is_ahead", lambda device, threads: False)
    eigensolvers._pools.cache_clear()  # libraries may have been loaded since
    own, seen = getattr(np.linalg, name), []

    def solve(matrix: np.ndarray):
        seen.extend(openblas_threads())
        return own(matrix)

    monkeypatch.setattr(np.linalg, name, solve)
    with threadpool_limits(limits=2, user_api="blas"):
        before = openblas_threads()
        eigensolvers.eigenvalues(torch.eye(3).double()[None])
        eigensolvers.eigensystem(torch.eye(3).double())
        assert openblas_threads() == before
    assert seen == [1] * len(before)


def openblas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["internal_api"] == "openblas"]
