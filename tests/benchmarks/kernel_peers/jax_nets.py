"""The cells in plain JAX: weights stored (in, out) and HWIO, images NHWC, so that structured derivatives apply.

Each net is (weights, inputs, f): weights a tree made once from torch's state dict, f(weights, inputs) → [N, O].
Reordering a weight's entries leaves the kernel as it is. Fixed statistics of batch norm are closed over.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Arrays = dict[str, np.ndarray]
Net = tuple[Any, Any, Callable[[Any, Any], jnp.ndarray]]


def linear(net: Arrays, name: str) -> tuple[jnp.ndarray, jnp.ndarray]:
    return jnp.asarray(net[f"{name}.weight"].T), jnp.asarray(net[f"{name}.bias"])


def affine(p: tuple[jnp.ndarray, jnp.ndarray], x: jnp.ndarray) -> jnp.ndarray:
    return x @ p[0] + p[1]


def dense(net: Arrays) -> Net:
    """Linear layers of a torch Sequential with ReLU between them; mlp and vae."""
    names = sorted({name.split(".")[0] for name in net if name.endswith("weight")}, key=int)

    def f(layers: list, x: jnp.ndarray) -> jnp.ndarray:
        for i, layer in enumerate(layers):
            x = affine(layer, x)
            x = jax.nn.relu(x) if i + 1 < len(layers) else x
        return x

    return [linear(net, name) for name in names], jnp.asarray(net["inputs"]), f


def vae(net: Arrays) -> Net:
    weights, inputs, hidden = dense(net)
    waist = len(weights) // 2

    def f(layers: list, x: jnp.ndarray) -> jnp.ndarray:
        return jax.nn.sigmoid(hidden(layers[waist:], hidden(layers[:waist], x)))

    return weights, inputs, f


def images(net: Arrays) -> jnp.ndarray:
    return jnp.asarray(net["inputs"].transpose(0, 2, 3, 1))


def kernel_of(net: Arrays, name: str) -> jnp.ndarray:
    return jnp.asarray(net[f"{name}.weight"].transpose(2, 3, 1, 0))


def conv(weight: jnp.ndarray, x: jnp.ndarray, stride: int = 1) -> jnp.ndarray:
    pad = weight.shape[0] // 2
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, weight, (stride, stride), [(pad, pad)] * 2, dimension_numbers=numbers)


def halve(x: jnp.ndarray) -> jnp.ndarray:
    """Means of 2×2."""
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def cnn(net: Arrays) -> Net:
    channels = net["3.weight"].shape[0]
    side = net["inputs"].shape[-1] // 4
    head = net["7.weight"].reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(-1, len(net["7.bias"]))
    weights = {
        "convs": [(kernel_of(net, name), jnp.asarray(net[f"{name}.bias"])) for name in ("0", "3")],
        "head": (jnp.asarray(head), jnp.asarray(net["7.bias"])),
    }

    def f(weights: dict, x: jnp.ndarray) -> jnp.ndarray:
        for weight, bias in weights["convs"]:
            x = halve(jax.nn.relu(conv(weight, x) + bias))
        return affine(weights["head"], x.reshape(len(x), -1))

    return weights, images(net), f


def resnet18(net: Arrays) -> Net:
    """Batch norm is a scale and a shift per channel on (x − mean) / √(var + 1e-5)."""

    def norm_of(name: str) -> tuple[jnp.ndarray, jnp.ndarray]:
        return jnp.asarray(net[f"{name}.weight"]), jnp.asarray(net[f"{name}.bias"])

    names = sorted({int(name.split(".")[0]) for name in net if ".conv1." in name})
    fixed = {
        name[: -len(".running_mean")]: (value, 1 / np.sqrt(net[name.replace("mean", "var")] + 1e-5))
        for name, value in net.items()
        if name.endswith("running_mean")
    }
    blocks = {}
    for i in names:
        parts = {"conv1": kernel_of(net, f"{i}.conv1"), "conv2": kernel_of(net, f"{i}.conv2")}
        parts |= {"norm1": norm_of(f"{i}.norm1"), "norm2": norm_of(f"{i}.norm2")}
        if f"{i}.side.0.weight" in net:
            parts |= {"side": (kernel_of(net, f"{i}.side.0"), norm_of(f"{i}.side.1"))}
        blocks[i] = parts
    last = max(int(name.split(".")[0]) for name in net if name[0].isdigit())
    weights = {"stem": (kernel_of(net, "0"), norm_of("1")), "blocks": blocks, "head": linear(net, str(last))}

    def norm(p: tuple, x: jnp.ndarray, name: str) -> jnp.ndarray:
        mean, scale = fixed[name]
        return (x - mean) * scale * p[0] + p[1]

    def f(weights: dict, x: jnp.ndarray) -> jnp.ndarray:
        x = jax.nn.relu(norm(weights["stem"][1], conv(weights["stem"][0], x), "1"))
        for i, block in weights["blocks"].items():
            stride = 2 if block["conv1"].shape[-2] != block["conv1"].shape[-1] else 1
            y = jax.nn.relu(norm(block["norm1"], conv(block["conv1"], x, stride), f"{i}.norm1"))
            y = norm(block["norm2"], conv(block["conv2"], y), f"{i}.norm2")
            if "side" in block:
                x = norm(block["side"][1], conv(block["side"][0], x, stride), f"{i}.side.1")
            x = jax.nn.relu(x + y)
        return affine(weights["head"], x.mean((1, 2)))

    return weights, images(net), f


def layer_norm(p: tuple[jnp.ndarray, jnp.ndarray], x: jnp.ndarray) -> jnp.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p[0] + p[1]


def scales(net: Arrays, name: str) -> tuple[jnp.ndarray, jnp.ndarray]:
    return jnp.asarray(net[f"{name}.weight"]), jnp.asarray(net[f"{name}.bias"])


def transformer(net: Arrays) -> Net:
    """The embedding is a product with one-hot rows: gathers have no structured rule."""
    count = len({name.split(".")[1] for name in net if name.startswith("layers.")})
    layers = []
    for i in range(count):
        layer = {part: linear(net, f"layers.{i}.{part}") for part in ("q", "k", "v", "out", "up", "down")}
        layers.append(layer | {part: scales(net, f"layers.{i}.{part}") for part in ("norm1", "norm2")})
    weights = {"words": jnp.asarray(net["words.weight"]), "places": jnp.asarray(net["places.weight"])}
    weights |= {"layers": layers, "norm": scales(net, "norm"), "tags": linear(net, "tags")}
    words = len(net["words.weight"])

    def attend(layer: dict, x: jnp.ndarray, heads: int = 4) -> jnp.ndarray:
        q, k, v = (affine(layer[part], x).reshape(*x.shape[:2], heads, -1) for part in ("q", "k", "v"))
        scores = jnp.einsum("nthd,nshd->nhts", q, k) / np.sqrt(q.shape[-1])
        mixed = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), v)
        return affine(layer["out"], mixed.reshape(x.shape))

    def f(weights: dict, tokens: jnp.ndarray) -> jnp.ndarray:
        x = jax.nn.one_hot(tokens, words) @ weights["words"] + weights["places"]
        for layer in weights["layers"]:
            x = x + attend(layer, layer_norm(layer["norm1"], x))
            y = jax.nn.gelu(affine(layer["up"], layer_norm(layer["norm2"], x)), approximate=False)
            x = x + affine(layer["down"], y)
        x = affine(weights["tags"], layer_norm(weights["norm"], x))
        return x.reshape(len(x), -1)

    return weights, jnp.asarray(net["inputs"]), f


def gin(net: Arrays) -> Net:
    """Graphs padded to the largest one: one-hot atoms, dense adjacency with the node itself, weights of the mean."""
    graph_of = net["inputs:batch"]
    sizes = np.bincount(graph_of)
    starts, widest, kinds = np.cumsum(sizes) - sizes, sizes.max(), len(net["atoms.weight"])
    atoms, share = np.zeros((len(sizes), widest, kinds), np.float32), np.zeros((len(sizes), widest), np.float32)
    bonds = np.tile(np.eye(widest, dtype=np.float32), (len(sizes), 1, 1))
    place = np.arange(len(graph_of)) - starts[graph_of]
    atoms[graph_of, place, net["inputs:x"]] = 1
    share[graph_of, place] = 1 / sizes[graph_of]
    source, target = net["inputs:edge_index"]
    np.add.at(bonds, (graph_of[target], place[target], place[source]), 1)
    count = len({name.split(".")[1] for name in net if name.startswith("norms.")})
    layers = [
        (linear(net, f"convs.{i}.nn.0"), linear(net, f"convs.{i}.nn.2"), scales(net, f"norms.{i}"))
        for i in range(count)
    ]
    weights = {"atoms": jnp.asarray(net["atoms.weight"]), "layers": layers, "head": linear(net, "head")}

    def f(weights: dict, graphs: tuple) -> jnp.ndarray:
        atoms, bonds, share = graphs
        x = atoms @ weights["atoms"]
        for first, second, norm in weights["layers"]:
            x = affine(second, jax.nn.relu(affine(first, bonds @ x)))
            x = jax.nn.relu(layer_norm(norm, x))
        return affine(weights["head"], jnp.einsum("nt,ntd->nd", share, x))

    return weights, tuple(map(jnp.asarray, (atoms, bonds, share))), f


NETS: dict[str, Callable[[Arrays], Net]] = {
    "mlp": dense,
    "cnn": cnn,
    "resnet18": resnet18,
    "transformer": transformer,
    "gin": gin,
    "vae": vae,
}
