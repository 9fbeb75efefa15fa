"""A user's own training, as a script: ``python attached_loop.py OUT STEPS [dies at step]``."""

import sys

import ray  # noqa: F401  as a user's script may, before ours is imported
import torch
import torch.nn.functional as F
from torch import nn

from tangentscope import pipeline

out, steps, *death = sys.argv[1], *map(int, sys.argv[2:])


class Mine(nn.Module):
    """A network that no table knows, defined where no other process can import it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


if __name__ == "__main__":
    torch.manual_seed(0)
    model, inputs, labels = Mine(), torch.randn(40, 6), torch.randint(3, (40,))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss_of_points(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none")

    with pipeline.attach(
        model,
        out,
        steps=steps,
        train=(inputs, labels),
        test=(inputs[:20], labels[:20]),
        loss=loss_of_points,
        variables=["trace", "entropy", "kinetic_energy", "kernel_distance"],
        schedule={"every": {"steps": 5}},
        kernel={"draws": 2, "size": 6},
        epoch_steps=10,
        name="mine",
    ) as watch:
        for step in range(steps):
            loss = loss_of_points(model(inputs), labels).mean()
            watch(step, loss=loss, test_accuracy=step / steps)
            if death == [step]:
                raise ValueError("diverged")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    torch.save(model.state_dict(), f"{out}.pt")
