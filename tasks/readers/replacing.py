"""Fewer distinct images in a training set of the same size (BSC App. D.2)."""

import numpy as np

from tangentscope.tasks.errors import DataError

NOISE = 0.01  # standard deviation, of pixels in [0, 1] (BSC App. D.2 gives the number, not the scale)


def noisy_copies(pixels: np.ndarray, labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The images with a share of each class replaced by noisy copies of the rest of their class.

    Of n images of a class round(share · n) are replaced, each by a copy of a random one that stays, with Gaussian noise
    of its own added to each pixel. Which are replaced is random; with a larger share they are the same and more.

    Args:
        pixels: float32 in [0, 1], `[n, channels, height, width]`; left as they are.
        labels: integers `[n]`.
        share: in [0, 1).
        seed: of all that is random.

    Raises:
        DataError: if no image of a class would stay.
    """
    found = pixels.copy()
    for label in np.unique(labels):
        random = np.random.RandomState([seed, int(label), 1])
        members = random.permutation(np.flatnonzero(labels == label))
        count = round(share * len(members))
        if count == len(members):
            raise DataError(
                f"task.replaced is {share:g}: of class {label} all {count} training images would be replaced and none "
                "left to copy; lower it or draw more images"
            )
        stay, go = members[count:], members[:count]
        copied = stay[random.randint(len(stay), size=count)]
        found[go] = pixels[copied] + random.normal(0, NOISE, (count, *pixels.shape[1:])).astype(np.float32)
    return found
