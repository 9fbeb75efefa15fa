"""Several networks of one architecture, trained in one pass over stacks of their parameters."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tangentscope.pipeline.training.learner import (
    Order,
    Training,
    mix,
    nothing,
    resumed,
    seed_generators,
    state_of,
    updating,
)
from tangentscope.tasks import Split


class Together:
    """Networks of one architecture that differ by their seeds only, in one pass over stacks of their parameters.

    Every network sees the batches it would see alone. What it computes differs by rounding, as the products of all are
    taken at once.

    Args:
        whats: The runs.
        train: The points they learn from, on `device`.
        modules: The networks at the start; from then on views of the stacks.
        device: Where they are trained.
        checkpoints: What ``state`` gave for each, as bytes, all of one step; None at the start.

    Raises:
        RuntimeError: What torch says of a network that cannot be vectorised, also at the first update.
    """

    def __init__(
        self,
        whats: Sequence[Training],
        train: Split,
        modules: Sequence[nn.Module],
        device: torch.device,
        checkpoints: Sequence[bytes] | None = None,
    ) -> None:
        self.modules = [module.train() for module in modules]
        found = [
            resumed(what, module, device, checkpoints[k] if checkpoints else None)
            for k, (what, module) in enumerate(zip(whats, modules, strict=True))
        ]
        steps = {step for _, step in found}
        if len(steps) > 1:
            raise ValueError(f"checkpoints of the steps {sorted(steps)}, expected one step: train them apart")
        self.step = steps.pop()
        self._parameters, self._buffers = stack_module_state(list(modules))
        for k, module in enumerate(self.modules):
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                tensor.data = (self._parameters | self._buffers)[name].data[k]
        self.optimiser = whats[0].descent.build(self._parameters.values())
        if self.step:
            self.optimiser.load_state_dict(_stacked([optimiser.state_dict() for optimiser, _ in found]))
        self._skeleton = copy.deepcopy(modules[0]).to("meta")
        self._whats, self._train, self._device = whats, train, device
        if not isinstance(train.inputs, Tensor):
            raise RuntimeError("graphs are of different sizes: networks of them are trained one by one")
        if whats[0].precision != "float32":
            raise RuntimeError(f"networks of {whats[0].precision} are trained one by one")
        self._inputs = train.inputs
        one = train.inputs[:1]
        self._augments = whats[0].task.augmented(one) is not one
        self._orders = [Order(what, len(train), device) for what in whats]

    def update(self, before_step: Callable[[], None] = nothing) -> None:
        """One step of the optimiser, which works entry by entry and so on each network as alone."""
        task = self._whats[0].task
        inputs, targets, shared = self._batch()
        with updating(self.optimiser, self._whats[0], self.step, before_step):
            outputs = vmap(self._forward, in_dims=(0, 0, None if shared else 0))(
                self._parameters, self._buffers, inputs
            )
            losses = task.loss(outputs.flatten(0, 1), targets)
            (losses.sum() * (len(self._whats) / len(losses))).backward()
        self.step += 1

    def state(self, member: int) -> dict[str, Any]:
        """Of one network, as it would be if it were trained alone."""
        found = self.optimiser.state_dict()
        of_one = {
            number: {name: value[member] if _has_entries(name, value) else value for name, value in entries.items()}
            for number, entries in found["state"].items()
        }
        return state_of(self.step, self.modules[member], {**found, "state": of_one})

    def _forward(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self._skeleton, (parameters, buffers), (inputs,))

    def _batch(self) -> tuple[Tensor, Tensor, bool]:
        """Inputs [networks, n, …], or [n, …] where all networks share them; targets [networks · n, …]; which it is."""
        places = torch.stack([order.batch(self.step) for order in self._orders])
        if places.shape[1] == len(self._train) and not self._augments:  # a full batch: its order is of no account
            inputs, targets = self._inputs, self._train.targets
            return inputs, targets.repeat(len(places), *[1] * (targets.dim() - 1)), True
        inputs, targets = self._train.batch(places.flatten())
        inputs = inputs.unflatten(0, places.shape)
        if self._augments:
            inputs = torch.stack(
                [self._augmented(what, of_one) for what, of_one in zip(self._whats, inputs, strict=True)]
            )
        return inputs, targets, False

    def _augmented(self, what: Training, inputs: Tensor) -> Tensor:
        """As the network would see them alone: every one has draws of its own."""
        seed_generators(mix(what.seed, self.step, 0, "step"), self._device)
        return what.task.augmented(inputs)


def _stacked(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the optimisers of several networks, the state of one for the stacks of their parameters."""
    first = states[0]
    together = {
        number: {
            name: torch.stack([state["state"][number][name] for state in states])
            if _has_entries(name, value)
            else value
            for name, value in entries.items()
        }
        for number, entries in first["state"].items()
    }
    return {**first, "state": together}


def _has_entries(name: str, value: Any) -> bool:
    # Beside tensors of the parameter's shape torch's optimisers count their steps, the same for all networks.
    return isinstance(value, Tensor) and name != "step"
