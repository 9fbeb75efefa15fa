"""A network that is built to see what a study asks for, and thrown away."""

import torch
from torch import nn

from tangentscope.models import Model
from tangentscope.tasks import TaskData


def trial_network(model: Model, data: TaskData) -> nn.Module:
    """A model's network for some data, the same each time; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.network(data.input_shape, data.outputs, data.codes)
