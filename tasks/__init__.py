"""Tasks, one file each: data, loss, score, and which outputs the kernel differentiates.

A task is a frozen config whose fields a study file spells out. To add one, write `tasks/two_moons.py`:

    class TwoMoons(Task, frozen=True):
        name: Literal["two_moons"] = "two_moons"
        train_size: int = Field(default=1000, ge=1)

        version: ClassVar[int] = 1
        score_name: ClassVar[str] = "accuracy"

        def load(self, data_dir: Path | None = None) -> TaskData: ...
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor: ...
        def score(self, outputs: Tensor, targets: Tensor) -> float: ...

and add its line to `TASKS`.
"""

from tasks.atari import Atari
from tasks.auto_mpg import AutoMpg
from tasks.base import DataError, MissingDataError, NetworkError, Split, Task, TaskData
from tasks.cartpole import CartPole
from tasks.catch import Catch
from tasks.cifar import Cifar10, Cifar100
from tasks.fashion_mnist import FashionMnist
from tasks.games import Game
from tasks.gaussian_linear import GaussianLinear
from tasks.greek import Greek
from tasks.mnist import Mnist
from tasks.mnist_vae import MnistVae
from tasks.modular import Modular
from tasks.molecules import MoleculeLabels
from tasks.published import Published
from tasks.sines import Sines
from tasks.sparse_parity import SparseParity
from tasks.step import Step

TASKS: dict[str, type[Task]] = {
    "mnist": Mnist,
    "mnist_vae": MnistVae,
    "fashion_mnist": FashionMnist,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "auto_mpg": AutoMpg,
    "greek": Greek,
    "molecules": MoleculeLabels,
    "sines": Sines,
    "step": Step,
    "gaussian_linear": GaussianLinear,
    "sparse_parity": SparseParity,
    "modular": Modular,
    "atari": Atari,
    "cartpole": CartPole,
    "catch": Catch,
}

__all__ = [
    "TASKS",
    "Atari",
    "AutoMpg",
    "CartPole",
    "Catch",
    "Cifar10",
    "Cifar100",
    "DataError",
    "FashionMnist",
    "Game",
    "GaussianLinear",
    "Greek",
    "MissingDataError",
    "Mnist",
    "MnistVae",
    "Modular",
    "MoleculeLabels",
    "NetworkError",
    "Published",
    "Sines",
    "SparseParity",
    "Split",
    "Step",
    "Task",
    "TaskData",
]
