"""What convolutions and transposed ones have in common: windows in any number of dimensions, and their bias."""

from collections.abc import Sequence

from torch import Tensor

from probes.kernels.parts import Call, Direct


def applies(call: Call) -> bool:
    """Batched inputs [n, channels, *size]."""
    return call.layout.dim == 0 and call.inputs.dim() == len(call.module.kernel_size) + 2  # pyright: ignore


def bias(call: Call) -> Direct:
    """Sums of the gradients over the positions of each channel."""

    def sums(gradients: Tensor) -> Tensor:
        return channels_first(call.layout.arrange(gradients), 1).sum(-1).flatten(1)

    return Direct(call.outputs_shape[1], lambda: sums)


def windows(
    images: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], crop: Sequence[int] = ()
) -> Tensor:
    """Windows of ``images`` [n, channels, *size], already padded: a view [n, channels, *kernel, *positions].

    Neighbouring positions lie beside one another, as in the images: other orders take several times longer to copy.
    crop: keep only so many positions in each dimension.
    """
    dims = len(kernel)
    for dim, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        images = images.unfold(2 + dim, gap * (size - 1) + 1, step)[..., ::gap]
        if crop:
            images = images.narrow(2 + dim, 0, crop[dim])
    return images.movedim(tuple(range(2, 2 + dims)), tuple(range(-dims, 0)))


def channels_first(rows: Tensor, groups: int) -> Tensor:
    """[N, each, channels, *positions] as [N, G, channels/G, each·positions]."""
    rows = rows.flatten(3) if rows.dim() > 3 else rows.unsqueeze(3)
    rows = rows.transpose(1, 2).flatten(2)
    return rows.unflatten(1, (groups, -1))
