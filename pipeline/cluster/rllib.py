"""RLlib around a network of ours: its new API stack plays, and learns by PPO; all that is learned is in the network.

Loaded only where games are played: RLlib takes seconds to load.
"""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import ray.util
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner import learner_group
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.tune.registry import register_env
from torch import Tensor, nn

from tangentscope.pipeline.cluster.loopback import LoopbackConfig, alone
from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.config.train import Reinforcement
from tangentscope.pipeline.training.learner import Training, mix, network_of
from tangentscope.tasks import Game, TaskData

_RETURNS = "returns_of_games"
_Found = TypeVar("_Found")


class _Network(TorchRLModule, ValueFunctionAPI):
    """A run's network as RLlib wants it: logits are all outputs but the last, the value is the last."""

    def setup(self) -> None:
        what: Training = self.model_config["what"]
        self.network = network_of(what, self.model_config["input_shape"], self.model_config["outputs"], {})
        self._seen = what.task.seen  # pyright: ignore[reportAttributeAccessIssue]  only games are played

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        outputs = self.network(self._seen(batch[Columns.OBS]))
        # The values are kept for the loss, which would compute them again.
        return {Columns.ACTION_DIST_INPUTS: outputs[:, :-1], Columns.EMBEDDINGS: outputs[:, -1]}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {Columns.ACTION_DIST_INPUTS: self._forward(batch)[Columns.ACTION_DIST_INPUTS]}

    _forward_inference = _forward_exploration

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        return self._forward(batch)[Columns.EMBEDDINGS] if embeddings is None else embeddings


class _Learner(PPOTorchLearner):
    """PPO with the run's own optimiser."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        module: Any = self._module[module_id]  # pyright: ignore  RLlib's types leave it open
        what: Training = module.unwrapped().model_config["what"]
        parameters: list[Any] = list(self.get_parameters(module))
        optimiser = what.descent.build(parameters)
        # Without a schedule of RLlib's: the run's own sets the rate before each iteration.
        self.register_optimizer(module_id=module_id, optimizer=optimiser, params=parameters)


class _Returns(RLlibCallback):
    """Keeps the return of every game: RLlib's own mean is over many iterations."""

    def on_episode_end(
        self, *, episode: Any, prev_episode_chunks: Any = (), metrics_logger: Any = None, **kwargs: Any
    ) -> None:
        # An episode that several iterations saw comes in as many pieces.
        pieces = [*(prev_episode_chunks or ()), episode]
        metrics_logger.log_value(_RETURNS, sum(piece.get_return() for piece in pieces), reduce="item_series")


class Iteration:
    """What came of one iteration: returns of the games that ended in it, actions, and losses by name."""

    def __init__(self, result: dict[str, Any]) -> None:
        played = result.get("env_runners", {})
        self.returns = np.atleast_1d(played.get(_RETURNS, ())).tolist()  # RLlib gives a single one as a number
        actions = float(played.get("num_env_steps_sampled", 0.0))
        self.actions = 0 if np.isnan(actions) else int(actions)  # no number while those that play are being replaced
        learned = result.get("learners", {}).get(DEFAULT_MODULE_ID, {})
        names = {"policy_loss": "policy_loss", "vf_loss": "value_loss", "entropy": "policy_entropy"}
        self.losses = {ours: float(learned[theirs]) for theirs, ours in names.items() if theirs in learned}


class Player:
    """RLlib's algorithm for one run.

    Args:
        algorithm: RLlib's.
        what: The run.
        copy: Takes up what is learned in other processes; None if this one learns.

    Attributes:
        network: What has been learned: the network that learns, changed in place, or the copy.
    """

    def __init__(self, algorithm: Algorithm, what: Training, copy: nn.Module | None) -> None:
        self._algorithm, self._what = algorithm, what
        self._learners: Any = algorithm.learner_group
        self._copy = copy
        self.network: nn.Module = self._of_learners(_network)[0] if copy is None else copy
        self._take_up()

    def resume(self, state: dict[str, Any]) -> None:
        """Take up parameters and the optimiser's state where a checkpoint left them."""

        def resumed(learner: Any) -> None:
            _network(learner).load_state_dict(state["module"])
            _optimiser(learner).load_state_dict(state["optimiser"])

        self._of_learners(resumed)
        self._take_up()
        runners = self._algorithm.env_runner_group
        if runners is not None:
            runners.sync_weights(from_worker_or_learner_group=self._learners, inference_only=True)

    def iterate(self, step: int) -> Iteration:
        """Play and learn once more, after `step` iterations.

        Raises:
            RayActorError: One that learns in a process of its own has died.
        """
        what = self._what
        rate = what.descent.lr * what.descent.schedule.scale(step, what.epoch_steps, what.steps)

        def rated(learner: Any) -> None:
            for group in _optimiser(learner).param_groups:
                group["lr"] = rate

        self._of_learners(rated)
        iteration = Iteration(self._algorithm.train())
        self._take_up()
        return iteration

    def optimiser_state(self) -> dict[str, Any]:
        """What the optimiser remembers, on the processor; the same for all that learn."""
        return self._of_learners(_optimiser_state)[0]

    def _take_up(self) -> None:
        if self._copy is not None:
            self._copy.load_state_dict(self._of_learners(_parameters)[0])

    def _of_learners(self, get: Callable[[Any], _Found]) -> list[_Found]:
        found: list[Any] = [each.get() for each in self._learners.foreach_learner(get, healthy_only=False)]
        for each in found:
            if isinstance(each, Exception):  # RLlib gives an error where it has no value
                raise each
        return found


def _network(learner: Any) -> nn.Module:
    return learner.module[DEFAULT_MODULE_ID].unwrapped().network


def _optimiser(learner: Any) -> torch.optim.Optimizer:
    return learner.get_optimizer(DEFAULT_MODULE_ID)


# A process without a GPU cannot take a tensor on one.
def _parameters(learner: Any) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in _network(learner).state_dict().items()}


def _optimiser_state(learner: Any) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(_optimiser(learner).state_dict(), file)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


@contextmanager
def player(what: Training, data: TaskData, device: torch.device, pool: TrainPool, step: int) -> Iterator[Player]:
    """RLlib ready to play and to learn: in this process, or in others beside it.

    Args:
        what: A run of a game.
        data: Its data, for their shapes.
        device: Where this process learns.
        pool: How many others play and learn.
        step: Iterations made: games go on with others than those of the start.
    """
    # A training worker stands in a placement group that has no room for others. RLlib would put those that play there
    # all the same; out of its sight they get CPUs of their own.
    with ExitStack() as stack:
        stack.enter_context(patch.object(ray.util, "get_current_placement_group", lambda: None))
        if alone():
            config = LoopbackConfig(learners=True)
            stack.enter_context(patch.object(learner_group, "_get_backend_config", lambda learner: config))
        algorithm = _config(what, data, device, pool, step).build_algo()
    try:
        copy = network_of(what, data.input_shape, data.outputs, {}) if pool.learners else None
        yield Player(algorithm, what, copy)
    finally:
        algorithm.stop()
        # An empty folder in the user's home: what RLlib would log is on storage.
        shutil.rmtree(str(algorithm.logdir), ignore_errors=True)


def _config(what: Training, data: TaskData, device: torch.device, pool: TrainPool, step: int) -> PPOConfig:
    runners, shares = pool.env_runners, max(1, pool.learners)
    gpus = pool.gpu if pool.learners else int(device.type == "cuda")
    course, game = what.course, what.task
    assert isinstance(course, Reinforcement)
    assert isinstance(game, Game)
    name = f"tangentscope-{hashlib.sha256(game.model_dump_json().encode()).hexdigest()[:12]}"
    register_env(name, lambda context: game.environment())
    model = {"what": what, "input_shape": data.input_shape, "outputs": data.outputs}
    return (
        PPOConfig()
        .environment(name)
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=-(-course.environments // max(1, runners)))
        .fault_tolerance(restart_failed_env_runners=True)
        .learners(
            learner_class=_Learner,
            num_learners=pool.learners,
            num_cpus_per_learner=pool.cpu if pool.learners else "auto",
            num_gpus_per_learner=gpus,
        )
        .rl_module(rl_module_spec=RLModuleSpec(module_class=_Network, model_config=model))
        .callbacks(_Returns)
        .debugging(seed=mix(what.seed, step, "play") % 2**31, log_level="ERROR")
        .training(
            lr=what.descent.lr,
            train_batch_size_per_learner=course.batch_size // shares,
            minibatch_size=course.minibatch_size // shares,
            num_epochs=course.passes,
            gamma=course.discount,
            lambda_=course.trace_decay,
            clip_param=course.clip,
            vf_clip_param=float("inf"),
            vf_loss_coeff=course.value_weight,
            entropy_coeff=course.entropy_bonus,
            # The clipped ratio alone holds steps back, as in the paper's experiments: no state beside the network.
            use_kl_loss=False,
            kl_coeff=0.0,
            grad_clip=course.gradient_clip,
            grad_clip_by="global_norm",
        )
    )
