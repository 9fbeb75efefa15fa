"""Layers that compute something else than their class did when torch was imported."""

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn
from wild_case import Wild

ROWS, IMAGES, TOKENS, SEQUENCES = (4, 6), (3, 2, 5, 5), (4, 3, 6), (3, 2, 7)


def patched(target: object, name: str, change: Callable[[Callable], Callable]) -> Callable[[], AbstractContextManager]:
    """``target.name`` replaced by what ``change`` makes of it, while the network is built and used."""
    return lambda: mock.patch.object(target, name, change(getattr(target, name)))


def method(module: nn.Module, name: str, replacement: Callable) -> nn.Module:
    setattr(module, name, types.MethodType(replacement, module))
    return module


def circular(conv: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Seamless tiling, as image generators are patched."""
    pads = (1, 1) * (x.dim() - 2)
    convolve = F.conv1d if x.dim() == 3 else F.conv2d
    return convolve(F.pad(x, pads, mode="circular"), weight, bias)


def one_way(conv: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Tiling along one axis only."""
    return F.conv2d(F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1)), weight, bias, conv.stride)


def equalised(layer: nn.Linear, x: Tensor) -> Tensor:
    """The learning rates of all layers made equal, as StyleGAN has it."""
    return F.linear(x, layer.weight * 0.5, layer.bias)


def without_mean(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight


def plus_one(norm: nn.Module, x: Tensor) -> Tensor:
    """Gemma's: the weight counts from one."""
    return F.rms_norm(x, norm.normalized_shape) * (1 + norm.weight)


def scaled_words(embedding: nn.Embedding, tokens: Tensor) -> Tensor:
    return F.embedding(tokens, embedding.weight) * 2.0


def frozen_statistics(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Detectron's, which forgets eps."""
    scale = norm.weight * norm.running_var.rsqrt()
    return x * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]


def in_groups(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x, 1, norm.weight, norm.bias, norm.eps)


def twice(function: Callable) -> Callable:
    @functools.wraps(function)
    def doubled(*args, **kwargs):
        return 2 * function(*args, **kwargs)

    return doubled


def squared_weight(function: Callable) -> Callable:
    """F.linear and its like, of the squares of weights."""

    @functools.wraps(function)
    def changed(x: Tensor, weight: Tensor, *rest, **kwargs):
        return function(x, weight.square() + weight, *rest, **kwargs)

    return changed


def scaled_weight(function: Callable) -> Callable:
    @functools.wraps(function)
    def changed(x: Tensor, shape: list[int], weight: Tensor | None = None, *rest, **kwargs):
        return function(x, shape, None if weight is None else weight * 0.5 + 1, *rest, **kwargs)

    return changed


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1), self.bias)


class Called(nn.Linear):
    """Changes what a call does and not forward."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * self.weight.mean()


class Fused(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight * weight.mean(), bias)


class Halved(nn.Linear):
    @property
    def half(self) -> Tensor:
        return self.weight / 2

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.half, self.bias)


class Half(torch.Tensor):
    """A weight of which linear layers see the half, as tensors have it that are stored in forms of their own."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not F.linear:
            return super().__torch_function__(func, types, args, kwargs)
        x, weight, *bias = args
        with torch._C.DisableTorchFunctionSubclass():
            return F.linear(x, weight.as_subclass(torch.Tensor) * 0.5, *bias, **kwargs)


def of_tensor_type(*names: str) -> Callable[[nn.Module], nn.Module]:
    """Weights of these layers become such tensors."""

    def finish(model: nn.Module) -> nn.Module:
        for name in names:
            layer = model.get_submodule(name)
            layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Half))
        return model

    return finish


def closed(layer: nn.Module) -> nn.Module:
    layer._conv_forward = lambda x, weight, bias: F.conv2d(x, 2 * weight, bias, padding=1)
    return layer


def swapped(module: nn.Module, kind: type) -> nn.Module:
    module.__class__ = kind
    return module


def with_adapter() -> nn.Module:
    """Low-rank adapters put into instances by their forward, the layer's own called inside."""
    model = mlp(6, 5, 3)
    for layer in (model[0], model[2]):
        layer.down, layer.up = nn.Linear(layer.in_features, 2, bias=False), nn.Linear(2, layer.out_features, bias=False)
        own = layer.forward
        layer.forward = lambda x, own=own, layer=layer: own(x) + layer.up(layer.down(x))
    return model


@contextmanager
def hook_on_all_outputs() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, outputs: outputs * 2 if isinstance(module, nn.Linear) else None
    )
    yield
    handle.remove()


@contextmanager
def hook_on_all_inputs() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: (args[0].sin(),) if isinstance(module, nn.Linear) else None
    )
    yield
    handle.remove()


def images(*body: nn.Module) -> nn.Module:
    model = nn.Sequential(*body, nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    model.eval()(torch.zeros(1, 2, *((5, 5) if isinstance(body[0], nn.Conv2d) else (7,))))
    return model.train()


def normed(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(6, 4), norm(), nn.Tanh(), nn.Linear(4, 2), nn.Flatten())


def conv(**options: object) -> nn.Module:
    return nn.Conv2d(2, 3, 3, padding=1, **options)


def patched_class(kind: type, forward: Callable) -> Callable[[], AbstractContextManager]:
    return patched(kind, "forward", lambda before: forward)


dense, words = (
    lambda: mlp(6, 5, 3),
    lambda: nn.Sequential(nn.Embedding(5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)),
)

# fmt: off
PATCHED = [
    Wild("_conv_forward of an instance", lambda: nn.Sequential(method(nn.Conv2d(2, 2, 3, padding=1), "_conv_forward",
        circular), nn.Tanh(), nn.Flatten()), (2, 2, 5, 5)),
    Wild("_conv_forward of an instance, one axis", lambda: images(method(conv(), "_conv_forward", one_way)), IMAGES),
    Wild("_conv_forward of a conv1d", lambda: images(method(nn.Conv1d(2, 3, 3, padding=1), "_conv_forward", circular)),
        SEQUENCES),
    Wild("_conv_forward as a closure", lambda: images(closed(conv())), IMAGES),
    Wild("_conv_forward of the class", lambda: images(conv()), IMAGES,
        around=patched(nn.Conv2d, "_conv_forward", lambda before: circular)),
    Wild("_conv_forward of a subclass", lambda: images(Fused(2, 3, 3)), IMAGES),
    Wild("forward of nn.Linear", dense, ROWS, around=patched_class(nn.Linear, equalised)),
    Wild("forward of nn.Linear, on tokens", normed(nn.Identity), TOKENS, around=patched_class(nn.Linear, equalised)),
    Wild("forward of nn.Linear, wrapped", dense, ROWS, around=patched(nn.Linear, "forward", twice)),
    Wild("forward of nn.Conv2d, wrapped", lambda: images(conv()), IMAGES, around=patched(nn.Conv2d, "forward", twice)),
    Wild("forward of nn.ConvTranspose1d", lambda: images(nn.ConvTranspose1d(2, 3, 3)), SEQUENCES,
        around=patched_class(nn.ConvTranspose1d, lambda layer, x: F.conv_transpose1d(x, layer.weight.sin(),
        layer.bias))),
    Wild("forward of nn.LayerNorm", normed(lambda: nn.LayerNorm(4)), TOKENS,
        around=patched_class(nn.LayerNorm, without_mean)),
    Wild("forward of nn.RMSNorm", normed(lambda: nn.RMSNorm(4)), TOKENS, around=patched_class(nn.RMSNorm, plus_one)),
    Wild("forward of nn.GroupNorm", lambda: images(conv(), nn.GroupNorm(3, 3)), IMAGES,
        around=patched_class(nn.GroupNorm, in_groups)),
    Wild("forward of nn.BatchNorm2d", lambda: images(conv(), nn.BatchNorm2d(3, eps=0.5)), IMAGES,
        around=patched_class(nn.BatchNorm2d, frozen_statistics)),
    Wild("forward of nn.Embedding", words, lambda: torch.randint(5, (4, 3)),
        around=patched_class(nn.Embedding, scaled_words)),
    Wild("forward of an embedding", lambda: nn.Sequential(method(nn.Embedding(5, 4), "forward", scaled_words),
        nn.Tanh(),
        nn.Flatten(), nn.Linear(12, 2)), lambda: torch.randint(5, (4, 3))),
    Wild("forward of a layer norm", normed(lambda: method(nn.LayerNorm(4), "forward", without_mean)), TOKENS),
    Wild("forward of a group norm", lambda: images(conv(), method(nn.GroupNorm(3, 3), "forward", in_groups)), IMAGES),
    Wild("forward of an instance by a closure over its own", with_adapter, ROWS),
    Wild("F.linear", dense, ROWS, around=patched(F, "linear", squared_weight)),
    Wild("F.linear, doubled", dense, ROWS, around=patched(F, "linear", twice)),
    Wild("F.conv2d", lambda: images(conv()), IMAGES, around=patched(F, "conv2d", squared_weight)),
    Wild("F.layer_norm", normed(lambda: nn.LayerNorm(4)), TOKENS, around=patched(F, "layer_norm", scaled_weight)),
    Wild("F.embedding", words, lambda: torch.randint(5, (4, 3)), around=patched(F, "embedding", squared_weight)),
    Wild("F.batch_norm", lambda: images(conv(), nn.BatchNorm2d(3)), IMAGES, around=patched(F, "batch_norm", twice)),
    Wild("F.group_norm", lambda: images(conv(), nn.GroupNorm(1, 3)), IMAGES, around=patched(F, "group_norm", twice)),
    Wild("F.pad", lambda: images(conv(padding_mode="reflect")), IMAGES, around=patched(F, "pad", twice)),
    Wild("subclass of nn.Linear", lambda: nn.Sequential(Cosine(6, 5), nn.Tanh(), Cosine(5, 3)), ROWS),
    Wild("class of an instance swapped", lambda: nn.Sequential(swapped(nn.Linear(6, 5), Cosine), nn.Tanh(),
        nn.Linear(5, 3)), ROWS),
    Wild("__call__ of a subclass", lambda: nn.Sequential(Called(6, 5), nn.Tanh(), nn.Linear(5, 3)), ROWS),
    Wild("__call__ of nn.Linear", dense, ROWS, around=patched(nn.Linear, "__call__", twice)),
    Wild("_call_impl of all modules", dense, ROWS, around=patched(nn.Linear, "_call_impl", twice)),
    Wild("hooks on the outputs of all modules", dense, ROWS, around=hook_on_all_outputs),
    Wild("hooks on the inputs of all modules", dense, ROWS, around=hook_on_all_inputs),
    Wild("function of a model's own, replaced", lambda: method(Net(lambda net, x: net.head(net.mix(x)),
        layer=nn.Linear(6, 4), head=nn.Linear(4, 2)), "mix", lambda net, rows: net.layer(rows).sin()), ROWS),
    Wild("weights of a tensor type of its own",
        lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)), (4, 6), finish=of_tensor_type("0", "2")),
    Wild("one weight of a tensor type of its own",
        lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)), (4, 6), finish=of_tensor_type("0")),
    Wild("weight of a tensor type of its own, on tokens",
        lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)), (4, 3, 6),
        finish=of_tensor_type("0")),
    Wild("weight read through a property of a subclass", lambda: nn.Sequential(Halved(6, 4), nn.Tanh(),
        nn.Linear(4, 2)),
        ROWS),
]
# fmt: on
