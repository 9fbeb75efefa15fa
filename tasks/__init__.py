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

and import it below, by one line: `TASKS` has every task that is imported here, by its name.
"""

from tangentscope.tasks.atari import Atari as Atari
from tangentscope.tasks.auto_mpg import AutoMpg as AutoMpg
from tangentscope.tasks.base import Task as Task
from tangentscope.tasks.base import tasks_among
from tangentscope.tasks.cartpole import CartPole as CartPole
from tangentscope.tasks.catch import Catch as Catch
from tangentscope.tasks.cifar import Cifar10 as Cifar10
from tangentscope.tasks.cifar import Cifar100 as Cifar100
from tangentscope.tasks.data import Split as Split
from tangentscope.tasks.data import TaskData as TaskData
from tangentscope.tasks.errors import DataError as DataError
from tangentscope.tasks.errors import MissingDataError as MissingDataError
from tangentscope.tasks.errors import NetworkError as NetworkError
from tangentscope.tasks.fashion_mnist import FashionMnist as FashionMnist
from tangentscope.tasks.games import Game as Game
from tangentscope.tasks.gaussian_linear import GaussianLinear as GaussianLinear
from tangentscope.tasks.greek import Greek as Greek
from tangentscope.tasks.mnist import Mnist as Mnist
from tangentscope.tasks.mnist_vae import MnistVae as MnistVae
from tangentscope.tasks.modular import Modular as Modular
from tangentscope.tasks.molecules import MoleculeLabels as MoleculeLabels
from tangentscope.tasks.readers.published import Published as Published
from tangentscope.tasks.sines import Sines as Sines
from tangentscope.tasks.skills import Skills as Skills
from tangentscope.tasks.sparse_parity import SparseParity as SparseParity
from tangentscope.tasks.step import Step as Step

TASKS: dict[str, type[Task]] = tasks_among(globals())
