"""What torch loads and allocates at its first use, so that it is not taken for a peer's memory."""

import torch
import torch.nn.functional as F


def warm_up(device: str) -> None:
    """A matrix product, a convolution and their gradients."""
    image, weight = torch.randn(2, 3, 16, 16, device=device), torch.randn(4, 3, 3, 3, device=device).requires_grad_()
    F.conv2d(image, weight, padding=1).relu().sum().backward()
    matrix = torch.randn(128, 128, device=device).requires_grad_()
    (matrix @ matrix).tanh().sum().backward()
    torch.func.vmap(torch.func.jacrev(lambda x: (x @ x).sum(0)))(torch.randn(2, 4, 4, device=device))
