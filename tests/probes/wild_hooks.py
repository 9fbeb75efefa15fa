"""Networks whose gradients are changed on their way: by hooks on tensors, modules and nodes, by functions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from torch import Tensor, nn
from wild_case import Wild

ROWS, IMAGES, TOKENS = (4, 6), (3, 2, 5, 5), (4, 3, 6)


def hook(tensor: Tensor, change: Callable[[Tensor], Tensor | None] = lambda g: 0.5 * g) -> Tensor:
    if tensor.requires_grad:
        tensor.register_hook(change)
    return tensor


def chain(run: Callable[[Net, Tensor], Tensor]) -> Callable[[], nn.Module]:
    """Three dense layers, used as ``run`` says."""
    return lambda: Net(run, a=nn.Linear(6, 5), b=nn.Linear(5, 5), c=nn.Linear(5, 3))


def on_body(body: Callable[[], nn.Module], change: Callable[[Tensor], Tensor | None] = lambda g: 0.5 * g):
    """A network of ``body``, whose output has a hook, and a dense head."""

    def run(net: Net, x: Tensor) -> Tensor:
        rows = net.body(x)
        return net.head(hook(rows[0] if isinstance(rows, tuple) else rows, change).tanh().flatten(1))

    def build() -> nn.Module:
        model = Net(run, body=body(), head=nn.LazyLinear(2))
        model.eval()(torch.zeros(2, *(IMAGES if isinstance(model.body[0], nn.Conv2d) else TOKENS)[1:]))
        return model.train()

    return build


def rows_of(net: Net, x: Tensor) -> Tensor:
    return net.b(net.a(x).tanh())


def implicit(net: Net, x: Tensor) -> Tensor:
    """A deep equilibrium: the gradient at the fixed point is another fixed point, found in a hook."""

    def step(z: Tensor) -> Tensor:
        return (0.3 * net.b(z) + net.a(x)).tanh()

    with torch.no_grad():
        z = torch.zeros_like(net.a(x))
        for _ in range(60):
            z = step(z)
    z = step(z)
    if z.requires_grad:
        before = z.detach().requires_grad_()
        after = step(before)

        def solve(gradient: Tensor) -> Tensor:
            found = gradient
            for _ in range(60):
                found = torch.autograd.grad(after, before, found, retain_graph=True)[0] + gradient
            return found

        z.register_hook(solve)
    return net.c(z)


def on_node(net: Net, x: Tensor) -> Tensor:
    rows = rows_of(net, x)
    if rows.grad_fn is not None:
        rows.grad_fn.register_prehook(lambda gradients: tuple(0.5 * g for g in gradients))
    return net.c(rows.tanh())


def after_node(net: Net, x: Tensor) -> Tensor:
    rows = rows_of(net, x).tanh()
    if rows.grad_fn is not None:
        rows.grad_fn.register_hook(lambda found, given: tuple(g if g is None else 3 * g for g in found))
    return net.c(rows)


class Reverse(torch.autograd.Function):
    """Gradient reversal, as adversarial networks of two domains have it."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


class Round(torch.autograd.Function):
    """Rounding to fourths with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


class Scale(torch.autograd.Function):
    """In the newer style, with a rule for vmap."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 0.1 * gradient


def with_module_hooks(register: Callable[[Net], object], run=lambda net, x: net.c(rows_of(net, x).tanh())):
    def build() -> nn.Module:
        model = chain(run)()
        register(model)
        return model

    return build


def hook_outputs(module: nn.Module, args: tuple, outputs: Tensor) -> None:
    """For ``register_forward_hook``."""
    hook(outputs)


@contextmanager
def hooks_on_all_modules() -> Iterator[None]:
    handle = nn.modules.module.register_module_full_backward_hook(
        lambda module, found, given: (
            tuple(g if g is None else 0.5 * g for g in found) if isinstance(module, nn.Linear) else None
        )
    )
    yield
    handle.remove()


def halve_inputs(module: nn.Module, found: tuple, given: tuple) -> tuple:
    return tuple(g if g is None else 0.5 * g for g in found)


def retained(rows: Tensor) -> Tensor:
    if rows.requires_grad:
        rows.retain_grad()
    return rows


def half(rows: Tensor) -> Tensor:
    return torch.cat([hook(rows[:, :2]), rows[:, 2:]], 1)


def rounded(rows: Tensor) -> Tensor:
    return rows + ((4 * rows).round() / 4 - rows).detach()


def used_twice(net: Net, x: Tensor) -> Tensor:
    rows = hook(rows_of(net, x))
    return net.c(rows.tanh()) + net.c(rows.sin())


def container() -> nn.Module:
    model = nn.Sequential(
        nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 2)
    )  # fmt: skip
    model[0].register_full_backward_hook(halve_inputs)
    return model


def clip(gradient: Tensor) -> Tensor:
    return gradient.clamp(-0.1, 0.1)


def unit(gradient: Tensor) -> Tensor:
    return gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=0.1)


# fmt: off
HOOKS = [
    Wild("hook on a layer's output", chain(lambda net, x: net.c(hook(rows_of(net, x)).tanh())), ROWS),
    Wild("hook on the first layer's output", chain(lambda net, x: net.c(net.b(hook(net.a(x)).tanh()).tanh())), ROWS),
    Wild("hook on the input of a layer", chain(lambda net, x: net.c(net.b(hook(net.a(x).tanh())))), ROWS),
    Wild("hook between two layers and nothing else", chain(lambda net, x: net.c(hook(net.b(hook(net.a(x)))))), ROWS),
    Wild("hook on the output of the network", chain(lambda net, x: hook(net.c(rows_of(net, x)), lambda g: 3 * g)),
        ROWS),
    Wild("hook on the output, then reshaped",
        chain(lambda net, x: hook(net.c(rows_of(net, x))).unflatten(1, (3, 1)).flatten(1)), ROWS),
    Wild("hook that reweighs channels", chain(lambda net, x: net.c(hook(rows_of(net, x),
        lambda g: g * torch.arange(5, dtype=g.dtype, device=g.device)).tanh())), ROWS),
    Wild("hook that stops", chain(lambda net, x: net.c(hook(rows_of(net, x), torch.zeros_like).tanh() + net.a(x))),
        ROWS),
    Wild("hook that only looks", chain(lambda net, x: net.c(hook(rows_of(net, x), lambda g: None).tanh())), ROWS),
    Wild("gradient retained", chain(lambda net, x: net.c(retained(rows_of(net, x)).tanh())), ROWS),
    Wild("two hooks on one tensor", chain(lambda net, x: net.c(hook(hook(rows_of(net, x)),
        lambda g: g + 0.1 * g.flip(1))
        .tanh())), ROWS),
    Wild("hook on half of a layer's output", chain(lambda net, x: net.c(half(rows_of(net, x)).tanh())), ROWS),
    Wild("hook on an output of a layer used twice",
        chain(lambda net, x: net.c(hook(net.b(hook(net.b(net.a(x).tanh())).tanh()), lambda g: 2 * g).tanh())), ROWS),
    Wild("hook on one of two uses", chain(lambda net, x: net.c(hook(net.b(net.a(x))).tanh() * net.b(net.a(x).sin()))),
        ROWS),
    Wild("hook on an output used twice", chain(used_twice), ROWS),
    Wild("hook on an output changed in place", chain(lambda net, x: net.c(hook(rows_of(net, x)).relu_())), ROWS),
    Wild("hook on a norm's output", on_body(lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))), TOKENS),
    Wild("hook on a batch norm's output", on_body(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))),
        IMAGES),
    Wild("hook on a convolution's output", on_body(lambda: nn.Sequential(nn.Conv2d(2, 3, 3))), IMAGES),
    Wild("hook on a layer's output on tokens", on_body(lambda: nn.Sequential(nn.Linear(6, 4)), lambda g: g.flip(2)),
        TOKENS),
    Wild("hook on a recurrent layer's output", on_body(lambda: nn.Sequential(nn.GRU(6, 3, batch_first=True))), TOKENS),
    Wild("hook on embedded words", lambda: Net(lambda net, t: net.head(hook(net.words(t)).tanh().sum(1)),
        words=nn.Embedding(5, 4), head=nn.Linear(4, 2)), lambda: torch.randint(5, (4, 3))),
    Wild("hook on a bare parameter's product",
        lambda: Net(lambda net, x: net.head(hook(net.scale * net.body(x)).tanh()),
        body=nn.Linear(6, 4), scale=nn.Parameter(torch.ones(4)), head=nn.Linear(4, 2)), ROWS),
    Wild("hook that solves for a fixed point", chain(implicit), ROWS),
    Wild("hook on a node before it", chain(on_node), ROWS),
    Wild("hook on a node after it", chain(after_node), ROWS),
    Wild("forward hook that puts a hook", with_module_hooks(lambda net: net.b.register_forward_hook(hook_outputs)),
        ROWS),
    Wild("forward hook of the network that puts a hook",
        with_module_hooks(lambda net: net.register_forward_hook(hook_outputs)),
        ROWS),
    Wild("full backward hook of a layer",
        with_module_hooks(lambda net: net.b.register_full_backward_hook(halve_inputs)), ROWS),
    Wild("full backward hook of the first layer",
        with_module_hooks(lambda net: net.a.register_full_backward_hook(halve_inputs)), ROWS),
    Wild("full backward hook of a layer used twice", with_module_hooks(
        lambda net: net.b.register_full_backward_hook(halve_inputs), lambda net,
        x: net.c(net.b(rows_of(net, x).tanh()))), ROWS),
    Wild("full backward hook of the network", with_module_hooks(lambda net: net.register_full_backward_pre_hook(
        lambda module, given: tuple(2 * g for g in given))), ROWS),
    Wild("backward hook before a layer", with_module_hooks(lambda net: net.b.register_full_backward_pre_hook(
        lambda module, given: tuple(g.flip(1) for g in given))), ROWS),
    Wild("backward hook of a container", container, ROWS),
    Wild("backward hooks of all modules", chain(lambda net, x: net.c(rows_of(net, x).tanh())), ROWS,
        around=hooks_on_all_modules),
    Wild("gradient reversed", chain(lambda net, x: net.c(Reverse.apply(net.a(x).tanh(), 0.7)) + net.c(rows_of(net, x))),
        ROWS),
    Wild("gradient reversed right after a layer", chain(lambda net, x: net.c(Reverse.apply(rows_of(net, x), 2.0))),
        ROWS),
    Wild("gradient reversed at the output", chain(lambda net, x: Reverse.apply(net.c(rows_of(net, x)), 2.0)), ROWS),
    Wild("gradient scaled by a function with a vmap rule", chain(lambda net, x: net.c(Scale.apply(rows_of(net, x)))),
        ROWS),
    Wild("rounded straight through", chain(lambda net, x: net.c(Round.apply(rows_of(net, x)).tanh())), ROWS),
    Wild("straight through by detaching", chain(lambda net, x: net.c(rounded(rows_of(net, x)).tanh())), ROWS),
    Wild("gradient scaled by detaching", chain(lambda net, x: net.c(torch.lerp(rows_of(net, x).detach(),
        rows_of(net, x),
        0.2))), ROWS),
    Wild("weights rounded straight through",
        chain(lambda net, x: net.c(F.linear(net.a(x).tanh(), Round.apply(net.b.weight), net.b.bias))), ROWS),
]

# The gradient of a sum of outputs is not the sum of their gradients.
NONLINEAR = [
    Wild("hook that clips", chain(lambda net, x: net.c(hook(rows_of(net, x), clip).tanh())), ROWS),
    Wild("hook that clips the output", chain(lambda net, x: hook(net.c(rows_of(net, x)), lambda g: g.clamp(-0.3, 0.3))),
        ROWS),
    Wild("hook that normalises rows", chain(lambda net, x: net.c(hook(rows_of(net, x), unit).tanh())), ROWS),
    Wild("backward hook that clips", with_module_hooks(lambda net: net.b.register_full_backward_hook(
        lambda module, found, given: tuple(g if g is None else clip(g) for g in found))), ROWS),
    Wild("hook that takes the sign", chain(lambda net, x: net.c(hook(rows_of(net, x), torch.sign).tanh())), ROWS),
]

# Hooks to which the other points of a batch matter; a point alone has a kernel all the same.
MIXING = [
    Wild("hook that clips the norm of everything", chain(lambda net, x: net.c(hook(rows_of(net, x),
        lambda g: g * (0.1 / g.norm()).clamp(max=1)).tanh())), ROWS),
    Wild("hook that normalises everything", chain(lambda net, x: net.c(hook(rows_of(net, x),
        lambda g: g / g.norm()).tanh())), ROWS),
    Wild("hook that adds the mean of all points", chain(lambda net, x: net.c(hook(rows_of(net, x),
        lambda g: g + g.mean(0)).tanh())), ROWS),
    Wild("hook that divides by the number of points", chain(lambda net, x: net.c(hook(rows_of(net, x),
        lambda g: g / len(g)).tanh())), ROWS),
]
# fmt: on
