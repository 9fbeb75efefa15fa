"""Snapshots: a module's parameters and buffers under their own names, and their files on storage."""

import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tangentscope.pipeline.store import run_files, sealed
from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.system.errors import UserError

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COMPILED = "_orig_mod"  # where torch.compile keeps a module

FROZEN = "frozen"
"""In a file's metadata, where it was recorded: as JSON, the names of the parameters that needed no gradients."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, without DDP, DataParallel or torch.compile around it."""
    # Told by type, not by name: a network may well call a part of its own "module".
    while is_wrapper(module):
        module = module.module if isinstance(module, _PARALLEL) else getattr(module, _COMPILED)
    return module


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their own names, wrappers' prefixes stripped; views, not copies.

    What a file of tensors cannot hold: extra state that is no tensor is left out, and complex128 comes as pairs of
    float64, in a last dimension of 2.

    Raises:
        UserError: The module is sharded over workers (FSDP, tensor parallel): no worker has a whole snapshot.
    """
    module = unwrapped(module)
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    if sharded := [name for name, tensor in state.items() if hasattr(tensor, "full_tensor")]:
        raise UserError(
            f"parameter {sharded[0]} of {type(module).__name__} is sharded over workers, expected a whole one: train "
            "with DDP, or take snapshots of a copy that was gathered with full_tensor()"
        )
    plain = _plain_names(module)
    return {plain(name): _storable(tensor.detach()) for name, tensor in state.items()}


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module without wrappers a state that `plain_state` gave of one like it."""
    complex_ones = {name for name, value in module.state_dict().items() if _is_wide(value)}
    whole = {name: torch.view_as_complex(t) if name in complex_ones else t for name, t in state.items()}
    module.load_state_dict(whole, strict=False)  # extra state that is no tensor is not in it


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Type and shape of each tensor of a state, as text."""
    return {name: f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for name, t in state.items()}


def parameters_of(module: nn.Module) -> set[str]:
    """Of the names in `plain_state`: those of parameters, which change at updates only."""
    return set(_parameters(module))


def frozen_in(module: nn.Module) -> list[str]:
    """Of `parameters_of`: those that need no gradients now, in order."""
    return sorted(name for name, parameter in _parameters(module).items() if not parameter.requires_grad)


def about_frozen(module: nn.Module) -> dict[str, str]:
    """What a file's metadata are to say of a network in which some parameters need no gradients; else nothing."""
    names = frozen_in(module)
    return {FROZEN: json.dumps(names)} if names else {}


def _parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    plain = _plain_names(unwrapped(module))
    return {plain(name): value for name, value in unwrapped(module).named_parameters(remove_duplicate=False)}


def is_wrapper(module: nn.Module) -> bool:
    """Whether it is DDP, DataParallel or torch.compile around another module."""
    return isinstance(module, _PARALLEL) or hasattr(module, _COMPILED)


def _plain_names(module: nn.Module) -> Callable[[str], str]:
    """Gives names within a module as they were if no part of it was wrapped."""
    inner: dict[str, str] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if is_wrapper(part):
            prefix = f"{name}." if name else ""
            inner[f"{prefix}{'module' if isinstance(part, _PARALLEL) else _COMPILED}."] = prefix

    def plain(name: str) -> str:
        for wrapped in sorted(inner, key=len, reverse=True):
            if name.startswith(wrapped):
                name = inner[wrapped] + name.removeprefix(wrapped)
        return name

    return plain


def _is_wide(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.complex128


def _storable(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if _is_wide(tensor) else tensor


class SnapshotBuffer:
    """Preallocated host memory for one snapshot."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        # Pinned memory lets the copy from a GPU run at the bus's full rate.
        pin = any(tensor.is_cuda for tensor in state.values())
        self.tensors = {name: torch.empty(t.shape, dtype=t.dtype, pin_memory=pin) for name, t in state.items()}

    def copy_from(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite the buffer with a state of these names and shapes, or with a part of one."""
        for name, tensor in state.items():
            self.tensors[name].copy_(tensor, non_blocking=True)
        if any(tensor.is_cuda for tensor in state.values()):
            torch.cuda.current_stream().synchronize()

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


def seal_snapshot(run: str, name: SnapshotName, state: Mapping[str, Tensor], about: Mapping[str, object]) -> bytes:
    """The bytes of a snapshot's file; `about` is what its metadata are to say beside which snapshot it is."""
    return sealed.seal(state, {**_identity(run, name), **about})


def read_snapshot(storage: Storage, run: str, name: SnapshotName) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state in a snapshot's file, and its metadata: ``run, step, attempt, checksum, taken_at`` as text.

    Raises:
        UserError: The bytes are not those that were written, or are those of another snapshot.
        FileNotFoundError: The file is not there, e.g. freed.
    """
    content = sealed.read(storage, run_files.snapshot(run, name), _identity(run, name))
    if isinstance(content, Fault):
        raise UserError(f"{content}; remove it and run the study again")
    return content


def snapshot_fault(storage: Storage, run: str, name: SnapshotName) -> Fault | None:
    """What is wrong with the identity of a snapshot's file, without reading its parameters; None if nothing is."""
    return sealed.identity_fault(storage, run_files.snapshot(run, name), _identity(run, name))


def _identity(run: str, name: SnapshotName) -> dict[str, object]:
    return {"run": run, "step": name.step, "attempt": name.attempt, "checksum": name.checksum}
