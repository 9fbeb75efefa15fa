"""A mapping that holds its tensors to one size has no single points, and a plain dict of them has."""

from collections.abc import Iterator, MutableMapping

import pytest
from test_kernel_inputs import N, Spread, tensors
from torch import Tensor

from tangentscope.probes import tangent_kernel


class Held(MutableMapping):
    """A mapping that holds all its tensors to one size."""

    def __init__(self, data: dict[str, Tensor]):
        self.own, self.size = dict(data), len(next(iter(data.values())))

    def __setitem__(self, key: str, value: Tensor) -> None:
        if len(value) != self.size:
            raise RuntimeError(f"batch dimension mismatch\nexpected {self.size}")
        self.own[key] = value

    def __getitem__(self, key: str) -> Tensor:
        return self.own[key]

    def __delitem__(self, key: str) -> None:
        del self.own[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.own)

    def __len__(self) -> int:
        return len(self.own)


def test_a_structure_without_single_points_is_refused_and_its_dict_is_not():
    held = Held({"features": tensors()[0], "mask": tensors()[1]})
    with pytest.raises(TypeError, match=r"inputs are a Held, of which .*\(batch dimension mismatch\).*into a dict$"):
        tangent_kernel(Spread().double(), held)
    assert tangent_kernel(Spread().double(), dict(held)).shape == (2 * N, 2 * N)
