"""Images and labels of MNIST back from the tensors made of them."""

import numpy as np
import torch


def pixels(inputs: torch.Tensor) -> np.ndarray:
    """The bytes that inputs were made from, `[n, 28, 28]`."""
    return np.rint((inputs[:, 0].double().numpy() * 0.3081 + 0.1307) * 255).astype(np.int64)


def pairs(images: np.ndarray, labels: np.ndarray | torch.Tensor) -> set[tuple[bytes, int]]:
    return {(image.astype(np.uint8).tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
