"""Auto MPG (Quinlan 1993, UCI data set 9): the fuel efficiency of cars; "Fuel Efficiency" in CV."""

import gzip
import importlib.metadata
import importlib.resources
import zlib
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.published import Published
from tangentscope.tasks.regression import Regression
from tangentscope.tasks.text import plain

FILE = "auto-mpg.data"
HOME = "https://archive.ics.uci.edu/dataset/9/auto+mpg"
URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/auto-mpg/auto-mpg.data"
PUBLISHED_MD5 = {FILE: "b858f4580d0066c48e260dd3b96f1ed8"}
COLUMNS = 8  # mpg, cylinders, displacement, horsepower, weight, acceleration, model year, origin; then the name
ORIGINS = (1, 2, 3)  # USA, Europe, Japan
MLXTEND_CARS = 392
INSTEAD = ", or set task.source to mlxtend"


def _download(root: Path) -> None:
    from torchvision.datasets.utils import download_url  # a second to load, and needed here only

    download_url(URL, str(root), FILE, PUBLISHED_MD5[FILE])


class AutoMpg(Regression, frozen=True):
    """Predict the miles a gallon of cars from nine numbers: half the squared error, R² as the score.

    Inputs are float32 `[n, 9]`: cylinders, displacement, horsepower, weight, acceleration, model year, and a 0 or 1 for
    each of three origins. Targets are float32 `[n, 1]`. Both are standardised with the training cars' means and
    deviations, so that a loss of ½ is that of the best constant. Cars of unknown horsepower (6 of 398) are left out.

    Args:
        test_share: share of the cars that are test cars.
        data_seed: which random order the cars are split in.
        source: `uci` takes UCI's file from the data directory, `mlxtend` the same cars as that package ships them;
            `auto` takes the file if the data directory has it, else mlxtend.
    """

    name: Literal["auto_mpg"] = "auto_mpg"
    test_share: float = Field(default=0.2, gt=0, lt=1)
    data_seed: int = Field(default=0, ge=0, lt=2**32)
    source: Literal["auto", "uci", "mlxtend"] = "auto"

    version: ClassVar[int] = 1
    published: ClassVar[Published] = Published("auto_mpg", "Auto MPG", ".", PUBLISHED_MD5, HOME, _download)

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The cars; `TaskData.source` says where they came from and how many were left out.

        Args:
            data_dir: holds `auto-mpg.data`, in `auto_mpg` or itself.

        Raises:
            DataError: if `source` is `uci` and there is no such file; if the file is damaged, also with `auto`; if
                `test_share` leaves a split without cars.
        """
        cars, origin = self._read(data_dir)
        count = round(self.test_share * len(cars))
        if not 0 < count < len(cars):
            raise DataError(
                f"task.test_share {self.test_share:g} makes {count} of {len(cars)} cars test cars, expected some but "
                "not all: choose another share"
            )
        # These draws are part of a run's identity, and only RandomState promises the same ones in every numpy release.
        order = np.random.RandomState(self.data_seed).permutation(len(cars))
        test, train = cars[order[:count]], cars[order[count:]]
        mean, std = train.mean(0), train.std(0)
        std[std == 0] = 1  # a column that is constant among the training cars, such as an origin none of them has
        splits = [torch.from_numpy(((part - mean) / std).astype(np.float32)) for part in (train, test)]
        drawn_train, drawn_test = (Split(part[:, 1:].contiguous(), part[:, :1].contiguous()) for part in splits)
        return TaskData(
            train=drawn_train,
            test=drawn_test,
            input_shape=(cars.shape[1] - 1,),
            outputs=1,
            source=f"Auto MPG, {len(train)} train and {count} test cars (data_seed {self.data_seed}) of {origin}",
        )

    def _read(self, data_dir: Path | None) -> tuple[np.ndarray, str]:
        """Cars `[n, 10]`, float64, the target first, and a phrase about them."""
        if self.source == "mlxtend":
            return _read_mlxtend()
        if folder := self.published.folder(data_dir):
            return _read_file(folder / FILE, self.published)
        if self.source == "uci":
            raise self.published.missing(data_dir, INSTEAD)
        cars, origin = _read_mlxtend()
        return cars, f"{origin}, as {data_dir} has no Auto MPG" if data_dir else origin


def _read_file(path: Path, published: Published) -> tuple[np.ndarray, str]:
    try:
        content = plain(path.read_bytes())
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): put an undamaged copy there") from error
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1)]
    known = [row for row in rows if row is not None]
    if not known:
        raise DataError(f"{path} has no car of known horsepower, expected 392: put an undamaged copy there")
    which = "UCI's file" if published.is_published(FILE, content) else "a file that is not UCI's"
    left_out = f"{len(rows) - len(known)} of {len(rows)} left out as their horsepower is unknown"
    return _with_origins(np.array(known)), f"{which} {path} ({left_out})"


def _row(path: Path, number: int, line: str) -> list[float] | None:
    """The numbers of a line; None if its horsepower is unknown."""
    values = line.partition("\t")[0].split()
    try:
        row = [float(value) for value in values if value != "?"]
    except ValueError:
        row = []
    complete = len(values) == COLUMNS and row and row[-1] in ORIGINS
    if not complete or len(row) < COLUMNS - (values[3] == "?") or not line.endswith('"'):
        raise DataError(
            f"{path} is damaged in line {number}: got {line[:60]!r}, expected {COLUMNS} numbers (horsepower may be ?), "
            f"the last of them an origin from 1 to 3, a tab and a quoted name: put an undamaged copy there"
        )
    return row if len(row) == COLUMNS else None


def _read_mlxtend() -> tuple[np.ndarray, str]:
    resource = importlib.resources.files("mlxtend") / "data" / "data" / "autompg.csv.gz"
    try:
        lines = gzip.decompress(resource.read_bytes()).decode().splitlines()
        rows = [line.split(",") for line in lines]
        cars = np.array([[float(value) for value in (row[-1], *row[: COLUMNS - 1])] for row in rows])
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"mlxtend's {resource} cannot be read ({error}): reinstall mlxtend") from error
    if cars.shape != (MLXTEND_CARS, COLUMNS) or not np.isin(cars[:, -1], ORIGINS).all():
        raise DataError(
            f"mlxtend's {resource} is a table of shape {cars.shape}, expected {(MLXTEND_CARS, COLUMNS)} with origins "
            "from 1 to 3: reinstall mlxtend"
        )
    version = importlib.metadata.version("mlxtend")
    return _with_origins(cars), f"the {len(cars)} of known horsepower that mlxtend {version} ships"


def _with_origins(cars: np.ndarray) -> np.ndarray:
    return np.column_stack([cars[:, :-1], *(cars[:, -1] == origin for origin in ORIGINS)])
