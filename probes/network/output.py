"""How a network is called with what its data points are, and which of what it returns is its output."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from tangentscope.probes.network.structure import parts_of, tensors_of

Output = str | int | Callable[[Any], Any] | None
"""A key, an index or an attribute of what a model returns, or a function that picks the output out of it."""


def arguments_for(model: nn.Module, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the call: mappings and tuples are spread where ``forward`` can take that."""
    if isinstance(data, Mapping) and all(isinstance(key, str) for key in data) and _binds(model, (), dict(data)):
        return (), dict(data)
    if isinstance(data, tuple | list) and _binds(model, tuple(data), {}):
        return tuple(data), {}
    return (data,), {}


def _binds(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    own = getattr(model, "_orig_mod", model)  # what torch.compile wraps takes the arguments
    try:
        inspect.signature(own.forward).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def picked(returned: Any, output: Output, model: nn.Module) -> Tensor:
    """The output out of what ``model`` returned.

    Raises:
        TypeError: it is no tensor; with ``output`` None, several tensors or none.
        ValueError: what was returned has no ``output``.
    """
    if output is None:
        return _only(returned)
    if callable(output):
        found, asked = output(returned), "the function output="
    else:
        found, asked = _part(returned, output, model), f"output={output!r}"
    if not isinstance(found, Tensor):
        raise TypeError(
            f"{asked} picks a {type(found).__name__} out of what {type(model).__name__} returned, expected a "
            f"floating-point tensor [N, ...]: {_advice(found)}"
        )
    return found


def _only(returned: Any) -> Tensor:
    if isinstance(returned, Tensor):
        return returned
    tensors = tensors_of(returned)
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    raise TypeError(
        f"the model returned a {type(returned).__name__}, expected a floating-point tensor [N, ...]: "
        f"{_advice(returned)}"
    )


def _advice(returned: Any) -> str:
    """How to get at a tensor in there."""
    choices = _choices(returned)
    if not choices:
        return "pick one with output=, a function of what the model returns, such as output=lambda found: found.logits"
    direct = [choice for choice, part in choices.items() if isinstance(part, Tensor)]
    told = ", ".join(map(repr, choices))
    if not direct:
        return f"it holds {told}: pick a tensor with a function, such as output=lambda found: found[...]"
    return f"it holds {told}: pick one with output=, such as output={direct[0]!r}"


def _choices(returned: Any) -> dict[Any, Any]:
    """What ``output`` could be, and what it would pick."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, tuple | list):
        return dict(zip(getattr(returned, "_fields", range(len(returned))), returned, strict=True))
    return {label.removeprefix("."): part for label, part in parts_of(returned) or ()}


def _part(returned: Any, output: str | int, model: nn.Module) -> Any:
    if isinstance(returned, Tensor):
        raise TypeError(f"output={output!r} was given and {type(model).__name__} returned a tensor: leave output out")
    if isinstance(returned, Mapping) and output in returned:
        return returned[output]
    if isinstance(output, str):
        if hasattr(returned, output):
            return getattr(returned, output)
    elif not isinstance(returned, Mapping) or hasattr(returned, "to_tuple"):  # as transformers' outputs have it
        try:
            return returned[output]
        except (IndexError, KeyError, TypeError):
            pass
    choices = _choices(returned)
    near = get_close_matches(str(output), map(str, choices), n=1)
    hint = f", did you mean {near[0]!r}?" if near else ":"
    told = ", ".join(map(repr, choices)) or "nothing that has a name"
    raise ValueError(
        f"output={output!r} is nothing that {type(model).__name__} returned (a {type(returned).__name__}){hint} "
        f"expected one of {told}, or a function that picks the output"
    )
