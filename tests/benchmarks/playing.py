"""How many actions a second are played and learned from in Pong: RLlib alone, and ours with and without probes.

    python tests/benchmarks/playing.py [--repeats 3] [--iterations 20] [--arms rllib ours unprobed probed]

Four arms with the same batches, in turns, each in processes of its own:

- `rllib`: RLlib's PPO with its own preparation of frames and its default network (`pip install opencv-python-headless`)
- `ours`: RLlib's PPO with our frames and network, as a study's training worker has it, and nothing about it
- `unprobed`: the study cv-fig3c-pong, probed as little as a study can be
- `probed`: the same with a snapshot of every iteration, and kernels of `--draws` draws of each `--every`-th

What plays and learns is held to one core and everything else to another. Prints medians with their spread, the ratios
within a repeat, and what the time of `rllib` and `ours` goes into, without the first iteration, which warms up.
Not a test: times depend on the machine and its other work.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tangentscope import pipeline

STUDY = "cv-fig3c-pong"
ENVIRONMENTS, PASSES, MINIBATCHES = 8, 4, 8
WORKER = "ray::RayTrainWorker"
Clocks = dict[str, float]


def rllib_alone(batch: int) -> Any:
    """RLlib's PPO as its users have it; games as ours: no sticky actions, every fourth frame, four of them seen."""
    import gymnasium
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.wrappers.atari_wrappers import wrap_atari_for_new_api_stack
    from ray.tune.registry import register_env

    def environment(context: Any) -> gymnasium.Env:
        game = gymnasium.make("ale_py:ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
        return wrap_atari_for_new_api_stack(game, frameskip=4, framestack=4)

    register_env("pong", environment)
    return (
        PPOConfig()
        .environment("pong")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=ENVIRONMENTS)
        .debugging(seed=0, log_level="ERROR")
        .training(train_batch_size_per_learner=batch, minibatch_size=batch // MINIBATCHES, num_epochs=PASSES)
        .build_algo()
    )


@contextmanager
def iterating(arm: str, batch: int) -> Iterator[Callable[[], float]]:
    """What plays and learns once in this process, and gives the number of actions."""
    if arm == "rllib":
        algorithm = rllib_alone(batch)
        yield lambda: algorithm.train()["env_runners"]["num_env_steps_sampled"]
        algorithm.stop()
        return
    import torch

    from tangentscope.pipeline.cluster.rllib import player
    from tangentscope.pipeline.config.resources import TrainPool
    from tangentscope.pipeline.study.runs import make_runs
    from tangentscope.pipeline.study.spec import read_study
    from tangentscope.pipeline.training.learner import training_of
    from tangentscope.studies import shipped

    few = ["task.states=10", "task.games=1", "probes.kernel={draws: 1, size: 10}"]
    (run,) = make_runs(read_study(shipped()[STUDY], [*trained(batch), *few], None), None)
    with player(training_of(run.planned()), run.data, torch.device("cpu"), TrainPool(), 0) as playing:
        yield lambda: playing.iterate(0).actions


def trained(batch: int, iterations: int = 1) -> list[str]:
    """The fields of the study that all arms have alike."""
    train = {"batch_size": batch, "minibatch_size": batch // MINIBATCHES, "passes": PASSES, "iterations": iterations}
    train |= {"environments": ENVIRONMENTS, "evaluate_every": iterations, "evaluate_games": 1}
    return ["seeds=1", "resources.train.env_runners=0", *(f"train.{name}={value}" for name, value in train.items())]


def clocked(clocks: Clocks, running: list[str], part: str, owner: type, method: str) -> None:
    """Count the seconds in a method as those of a part, unless another part has called it."""
    plain = getattr(owner, method)

    def counting(*arguments: Any, **named: Any) -> Any:
        if running:
            return plain(*arguments, **named)
        running.append(part)
        begun = time.perf_counter()
        try:
            return plain(*arguments, **named)
        finally:
            clocks[part] += time.perf_counter() - begun
            running.pop()

    clocks.setdefault(part, 0.0)
    setattr(owner, method, counting)


def clocks_of_parts() -> Clocks:
    """From now on, the seconds that RLlib's parts take."""
    from ray.rllib.connectors.env_to_module import EnvToModulePipeline
    from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline
    from ray.rllib.core.learner.learner_group import LearnerGroup
    from ray.rllib.core.rl_module.torch import TorchRLModule
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    clocks, running = Clocks(), list[str]()
    clocked(clocks, running, "games", SingleAgentEnvRunner, "_try_env_step")
    clocked(clocks, running, "policy", TorchRLModule, "forward_exploration")
    clocked(clocks, running, "connectors", EnvToModulePipeline, "__call__")
    clocked(clocks, running, "connectors", ModuleToEnvPipeline, "__call__")
    clocked(clocks, running, "learning", LearnerGroup, "update")
    return clocks


def play(arm: str, iterations: int, batch: int) -> dict[str, float]:
    """Actions a second in this process, and shares of its time."""
    import ray
    import torch

    torch.set_num_threads(1)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    clocks = clocks_of_parts()
    with iterating(arm, batch) as iterate:
        iterate()
        clocks.update(dict.fromkeys(clocks, 0.0))
        begun = time.perf_counter()
        actions = sum(iterate() for _ in range(iterations - 1))
        seconds = time.perf_counter() - begun
    ray.shutdown()
    shares = {part: of_part / seconds for part, of_part in clocks.items()}
    return {"rate": actions / seconds} | shares | {"episodes and all else": 1 - sum(shares.values())}


def probes(arm: str, every: int, draws: int) -> list[str]:
    """The fields of the study that say how it is probed."""
    if arm == "probed":
        kernel = f"probes.kernel={{outputs: full, draws: {draws}, size: 20}}"
        return [f"probes.schedule={{every: {{steps: {every}}}}}", kernel]
    few = [
        "probes.schedule={at: [0]}",
        "probes.snapshots=null",
        "probes.parts=[critic]",
        "probes.variables=[trace]",
    ]
    return [*few, "probes.kernel={draws: 1, size: 2}"]


def study(folder: Path) -> dict[str, float]:
    """Actions a second of a study that has been run, and what its probes cost."""
    history = pipeline.load(folder, "history").query("split == 'train' and variable == 'agent_steps' and step > 0")
    first, last = history.sort_values("step").iloc[[0, -1]].to_dict("records")
    seconds = last["recorded_at"] - first["recorded_at"]
    snapshots = pipeline.load(folder, "snapshots").query("step > 0")
    measured = pipeline.load(folder).query("0 < step and recorded_at < @last['recorded_at']")
    return {
        "rate": (last["value"] - first["value"]) / seconds,
        "held up": (snapshots["copy_seconds"] + snapshots["wait_seconds"]).sum() / seconds,
        "probed meanwhile": measured["step"].nunique(),
    }


def pin(process: psutil.Process, plays: Callable[[psutil.Process], bool], cores: list[int]) -> None:
    """Hold what plays to the first core and all that was started beside it to the last, thread by thread."""
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            core = cores[0] if plays(each) else cores[-1]
            for thread in each.threads():
                os.sched_setaffinity(thread.id, {core})


def run(command: list[str], plays: Callable[[psutil.Process], bool], cores: list[int]) -> str:
    """What a command prints, pinned while it runs."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as printed:
        with subprocess.Popen(command, env=environment, stdout=printed, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                with suppress(psutil.NoSuchProcess):
                    pin(psutil.Process(process.pid), plays, cores)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
        printed.seek(0)
        text = printed.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{text}")
    return text


def measure(arm: str, given: argparse.Namespace, cores: list[int]) -> dict[str, float]:
    """One repeat of an arm."""
    if arm in ("rllib", "ours"):
        sizes = ["--iterations", str(given.iterations), "--batch-size", str(given.batch_size)]
        command = [sys.executable, __file__, "--alone", arm, *sizes]
        printed = run(command, lambda process: "--alone" in process.cmdline(), cores)
        return json.loads(printed.splitlines()[-1])
    with tempfile.TemporaryDirectory() as folder:
        fields = [*trained(given.batch_size, given.iterations), *probes(arm, given.every, given.draws)]
        command = [sys.executable, "-m", "tangentscope", "run", STUDY, "--offline", "--out", folder, *fields]
        run(command, lambda process: WORKER in " ".join(process.cmdline()), cores)
        return study(Path(folder))


def spread(values: list[float]) -> str:
    return f"{np.median(values):8.3g}   {min(values):8.3g} … {max(values):8.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--every", type=int, default=4, help="iterations between two that are probed")
    parser.add_argument("--draws", type=int, default=50, help="kernels of 20 states each, of an iteration")
    parser.add_argument("--arms", nargs="+", default=["rllib", "ours", "unprobed", "probed"])
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # this process is an arm
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(play(given.alone, given.iterations, given.batch_size)))
        return
    cores = sorted(os.sched_getaffinity(0))
    if "rllib" in given.arms and importlib.util.find_spec("cv2") is None:
        print("rllib: left out, as its frames need cv2: pip install opencv-python-headless")
        given.arms.remove("rllib")
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in given.arms}
    for repeat in range(given.repeats):
        for arm in given.arms:
            found[arm].append(measure(arm, given, cores))
            print(f"repeat {repeat + 1}, {arm}: {found[arm][-1]['rate']:.0f} actions a second", flush=True)
    for arm, repeats in found.items():
        for name in repeats[0]:
            print(f"{arm:<9} {name:<22} {spread([each[name] for each in repeats])}")
    for one, other in (("ours", "rllib"), ("unprobed", "rllib"), ("probed", "unprobed")):
        if one in found and other in found:
            ratios = [mine["rate"] / its["rate"] for mine, its in zip(found[one], found[other], strict=True)]
            print(f"{f'{one} / {other}':<32} {spread(ratios)}")


if __name__ == "__main__":
    main()
