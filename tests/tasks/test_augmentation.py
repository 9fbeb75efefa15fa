import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tangentscope.tasks import Cifar10, Cifar100
from tangentscope.tasks.readers.images import crop_and_flip


def crops(image: Tensor, black: Tensor, padding: int) -> list[Tensor]:
    """All that one image can become."""
    _, height, width = image.shape
    padded = F.pad(image - black[:, None, None], [padding] * 4) + black[:, None, None]
    places = [(top, left) for top in range(2 * padding + 1) for left in range(2 * padding + 1)]
    cut = [padded[:, top : top + height, left : left + width] for top, left in places]
    return [*cut, *[image.flip(2) for image in cut]]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 99)
)
def test_each_image_becomes_a_crop_of_itself(n: int, channels: int, height: int, width: int, padding: int, seed: int):
    torch.manual_seed(seed)
    images = torch.randint(1, 255, (n, channels, height, width)).float()
    black = -torch.arange(1.0, channels + 1)
    for found, image in zip(crop_and_flip(images, black, padding), images, strict=True):
        assert any(torch.equal(found, crop) for crop in crops(image, black, padding))


def test_every_crop_and_its_mirror_image_come_equally_often():
    torch.manual_seed(0)
    image, black = torch.arange(1.0, 10).view(1, 3, 3), torch.zeros(1)
    n = 5000
    found = crop_and_flip(image.expand(n, 1, 3, 3), black, padding=1)
    counts = torch.tensor([(found == crop).all((1, 2, 3)).sum().item() for crop in crops(image, black, 1)])
    assert counts.sum() == n, "18 different images"
    assert ((counts - n / 18).abs() < 5 * (n / 18) ** 0.5).all()


def test_images_of_a_batch_are_drawn_apart_and_left_alone():
    torch.manual_seed(0)
    images = torch.rand(64, 3, 32, 32)
    before = images.clone()
    found = crop_and_flip(images[:1].expand(64, -1, -1, -1), torch.zeros(3))
    assert len({image.numpy().tobytes() for image in found}) > 32
    crop_and_flip(images, torch.zeros(3))
    assert torch.equal(images, before)


@pytest.mark.parametrize("task", [Cifar10, Cifar100])
def test_the_border_is_black(task: type[Cifar10 | Cifar100]):
    torch.manual_seed(0)
    white = (1 - torch.tensor(task.mean)) / torch.tensor(task.std)
    black = (0 - torch.tensor(task.mean)) / torch.tensor(task.std)
    images = white[:, None, None].expand(20, 3, 32, 32)
    found = task(augment="crop_flip").augmented(images)
    assert found.shape == images.shape
    for channel in range(3):
        assert set(found[:, channel].unique().tolist()) == {white[channel].item(), black[channel].item()}
    assert task().augmented(images) is images


def test_the_generator_alone_decides():
    images = torch.rand(8, 3, 32, 32)
    task = Cifar10(augment="crop_flip")

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return task.augmented(images)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
