"""What a study needs goes away for a while: MLflow's server, room on the disk, the machine itself after a warning.

Five rounds of each, at moments drawn from the round's number. Run with ``pytest -m chaos``.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from chaos import ROUNDS, check_mlflow, strike
from long_study import LONG, same_numbers, the_run
from processes import free_port, mlflow_server

from tangentscope import pipeline
from tangentscope.pipeline.store import run_files

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

SEEDS = {**LONG, "seeds": 4, "grid": {}, "model": {"name": "mlp", "depth": 3, "width": 8}}


@pytest.mark.parametrize("number", ROUNDS)
def test_mlflow_does_not_answer_for_a_minute(launch, straight, tmp_path: Path, number: int):
    port = free_port()
    env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with mlflow_server(tmp_path, port) as server:
        hit = launch(tmp_path / "small", env=env, **LONG)
        strike(hit, number, "silence")
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        for process in family:
            process.suspend()
        time.sleep(60)  # the minute
        for process in family:
            process.resume()
        hit.finish()  # in time or behind with MLflow, which the next launch makes up for
        again = launch(tmp_path / "small", env=env, **LONG)
        again.finish()
        same_numbers(again, straight)
        check_mlflow(env["MLFLOW_TRACKING_URI"], again)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, whose size can be changed by mounting it again."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("mounting a file system takes rights that this user does not have")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def taken(folder: Path) -> int:
    """Kilobytes of the files below, in whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("number", ROUNDS)
def test_the_disk_fills_up_and_is_made_larger(launch, straight, small_disk: Path, number: int):
    def of_size(kilobytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(small_disk)], check=True)

    of_size(int(taken(Path(straight.out)) * (0.3 + 0.15 * number)))
    hit = launch(small_disk / "small", "--offline", **LONG)
    assert "No space left on device" in hit.finish(code=1)
    of_size(200_000)
    again = launch(small_disk / "small", "--offline", **LONG)
    again.finish()
    same_numbers(again, straight)


@pytest.mark.parametrize("number", ROUNDS)
def test_a_machine_that_is_taken_away_after_a_warning(launch, straight, tmp_path: Path, number: int):
    hit = launch(tmp_path / "small", **LONG)
    strike(hit, number, "warning")
    hit.process.terminate()
    hit.finish(code=130)
    names = run_files.current_snapshots(hit.storage, the_run(hit))
    checkpoint = run_files.newest_checkpoint(hit.storage, the_run(hit))
    assert checkpoint is not None
    # Nothing that has been trained is trained again; a late warning may find the training at its end.
    assert checkpoint[0] >= names[-1].step or hit.storage.exists(run_files.outcome(the_run(hit)))
    again = launch(tmp_path / "small", **LONG)
    again.finish()
    same_numbers(again, straight)
    check_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}", again)


@pytest.mark.parametrize("number", ROUNDS)
def test_seeds_that_train_together_die_together_and_go_on(launch, tmp_path: Path, number: int):
    hit = launch(tmp_path / "small", "--offline", **SEEDS)
    strike(hit, number, "seeds")
    (worker,) = hit.descendants("ray::RayTrainWorker")
    worker.kill()
    hit.finish()
    frame = pipeline.load(hit.out)
    assert set(frame["state"]) == {"measured"}
    for run in hit.store.runs:
        assert hit.store.outcomes()[run.id].state == "finished"
        rows = frame.loc[frame["run"] == run.id]
        names = run_files.current_snapshots(hit.storage, run.id)
        assert [name.step for name in names] == [*run.schedule]
        assert dict(zip(rows["step"], rows["checksum"], strict=True)) == {name.step: name.checksum for name in names}
        assert len(rows) == len(rows.drop_duplicates(["step", "probe", "variable"]))
        modes = {
            hit.storage.read_json(f"runs/{run.id}/attempts/{name}")["together"]
            for name in hit.storage.list(f"runs/{run.id}/attempts")
            if name.endswith(".json")
        }
        assert len(modes) == 1  # as it began
