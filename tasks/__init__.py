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

from tangentscope.tasks.atari import Atari
from tangentscope.tasks.auto_mpg import AutoMpg
from tangentscope.tasks.base import Task
from tangentscope.tasks.cartpole import CartPole
from tangentscope.tasks.catch import Catch
from tangentscope.tasks.cifar import Cifar10, Cifar100
from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError, MissingDataError, NetworkError
from tangentscope.tasks.fashion_mnist import FashionMnist
from tangentscope.tasks.games import Game
from tangentscope.tasks.gaussian_linear import GaussianLinear
from tangentscope.tasks.greek import Greek
from tangentscope.tasks.mnist import Mnist
from tangentscope.tasks.mnist_vae import MnistVae
from tangentscope.tasks.modular import Modular
from tangentscope.tasks.molecules import MoleculeLabels
from tangentscope.tasks.readers.published import Published
from tangentscope.tasks.sines import Sines
from tangentscope.tasks.sparse_parity import SparseParity
from tangentscope.tasks.step import Step

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
