"""Snapshots: a module's parameters and buffers under their own names, and their files on storage."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline import layout, sealed
from pipeline.errors import UserError
from pipeline.faults import Fault
from pipeline.layout import SnapshotName
from pipeline.storage import Storage

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COMPILED = "_orig_mod"  # where torch.compile keeps a module


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, without DDP, DataParallel or torch.compile around it."""
    # Told by type, not by name: a network may well call a part of its own "module".
    while isinstance(module, _PARALLEL) or hasattr(module, _COMPILED):
        module = module.module if isinstance(module, _PARALLEL) else getattr(module, _COMPILED)
    return module


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their own names, wrappers' prefixes stripped; views, not copies.

    Raises:
        UserError: The module is sharded over workers (FSDP, tensor parallel): no worker has a whole snapshot.
    """
    module = unwrapped(module)
    state = module.state_dict()
    if sharded := [name for name, tensor in state.items() if hasattr(tensor, "full_tensor")]:
        raise UserError(
            f"parameter {sharded[0]} of {type(module).__name__} is sharded over workers, expected a whole one: train "
            "with DDP, or take snapshots of a copy that was gathered with full_tensor()"
        )
    return {name.replace(f"{_COMPILED}.", ""): tensor.detach() for name, tensor in state.items()}


def parameters_of(module: nn.Module) -> set[str]:
    """Of the names in `plain_state`: those of parameters, which change at updates only."""
    return {name.replace(f"{_COMPILED}.", "") for name, _ in unwrapped(module).named_parameters(remove_duplicate=False)}


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


def seal_snapshot(run: str, name: SnapshotName, state: Mapping[str, Tensor], taken_at: float) -> bytes:
    """The bytes of a snapshot's file; `taken_at` in seconds since 1970."""
    return sealed.seal(state, {**_identity(run, name), "taken_at": taken_at})


def read_snapshot(storage: Storage, run: str, name: SnapshotName) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state in a snapshot's file, and its metadata: ``run, step, attempt, checksum, taken_at`` as text.

    Raises:
        UserError: The bytes are not those that were written, or are those of another snapshot.
        FileNotFoundError: The file is not there, e.g. freed.
    """
    content = sealed.read(storage, layout.snapshot(run, name), _identity(run, name))
    if isinstance(content, Fault):
        raise UserError(f"{content}; remove it and run the study again")
    return content


def snapshot_fault(storage: Storage, run: str, name: SnapshotName) -> Fault | None:
    """What is wrong with the identity of a snapshot's file, without reading its parameters; None if nothing is."""
    return sealed.identity_fault(storage, layout.snapshot(run, name), _identity(run, name))


def _identity(run: str, name: SnapshotName) -> dict[str, object]:
    return {"run": run, "step": name.step, "attempt": name.attempt, "checksum": name.checksum}
