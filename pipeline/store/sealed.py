"""Safetensors files that say what they are of: identity and checksums inside, held against what was asked for."""

import json
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
import xxhash
from torch import Tensor

from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage

_SEAL = "seal"  # the checksum of all other metadata
_CHECKSUM = "checksum"
_ENTRY = "tangentscope"
_HEADER_BYTES = 2**16  # read at first; most headers are shorter
_LONGEST_HEADER = 10**8  # that the format allows

Sealed = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors and metadata."""


def checksum(state: Mapping[str, Tensor]) -> str:
    """Sixteen hex digits over names, types, shapes and every bit of a state of CPU tensors."""
    digest = xxhash.xxh3_64()
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def seal(tensors: Mapping[str, Tensor], identity: Mapping[str, object]) -> bytes:
    """The bytes of a file of these tensors, with who they are and, unless `identity` has it, their checksum."""
    metadata = {key: str(value) for key, value in {_CHECKSUM: "", **identity}.items()}
    metadata[_CHECKSUM] = metadata[_CHECKSUM] or checksum(tensors)
    # One entry, for the format keeps several in no order: the same points are the same bytes on every machine.
    return safetensors.torch.save(dict(tensors), {_ENTRY: json.dumps(metadata | {_SEAL: _seal_of(metadata)})})


def read(storage: Storage, file: str, expected: Mapping[str, object], older: bool = False) -> Sealed | Fault:
    """Tensors and metadata of a file, or what is wrong with it.

    Args:
        storage: The study's.
        file: Its name.
        expected: What its metadata must say.
        older: Take a file without metadata as it is: older versions wrote such ones.

    Raises:
        FileNotFoundError: There is no such file.
    """
    data = storage.read(file)
    metadata = _metadata(file, data)
    if isinstance(metadata, Fault):
        return metadata
    if (metadata or not older) and (fault := _difference(file, metadata, expected)):
        return fault
    try:
        tensors = safetensors.torch.load(data)
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        return Fault(file, "damaged", " ".join(str(error).split()))
    if metadata and (got := checksum(tensors)) != metadata[_CHECKSUM]:
        return Fault(file, "damaged", f"checksum {got}, expected {metadata[_CHECKSUM]}")
    return tensors, metadata


def identity_fault(storage: Storage, file: str, expected: Mapping[str, object]) -> Fault | None:
    """What is wrong with a file's metadata, None if nothing is; its tensors are not read. Raises FileNotFoundError."""
    head = storage.read_start(file, _HEADER_BYTES)
    if (length := 8 + int.from_bytes(head[:8], "little")) > len(head):
        head = storage.read_start(file, min(length, _LONGEST_HEADER))
    metadata = _metadata(file, head)
    return metadata if isinstance(metadata, Fault) else _difference(file, metadata, expected)


def _metadata(file: str, data: bytes) -> dict[str, str] | Fault:
    """The metadata in a file's first bytes; empty if it has none."""
    try:
        # The format: eight bytes of header length, the header as JSON, the tensors.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
        metadata = json.loads(metadata[_ENTRY]) if _ENTRY in metadata else metadata  # older ones are entries each
        return {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, AttributeError, TypeError) as error:
        return Fault(file, "damaged", f"no header of a safetensors file: {error}")


def _difference(file: str, metadata: dict[str, str], expected: Mapping[str, object]) -> Fault | None:
    # Older versions wrote no seal.
    if _SEAL in metadata and metadata[_SEAL] != _seal_of(metadata):
        return Fault(file, "damaged", "its metadata are not what was written")
    for key, value in {**expected, _CHECKSUM: expected.get(_CHECKSUM, metadata.get(_CHECKSUM))}.items():
        if (got := metadata.get(key, "nothing")) != str(value):
            return Fault(file, "foreign", f"its {key} is {got}, expected {value}")
    return None


def _seal_of(metadata: Mapping[str, str]) -> str:
    others = {key: metadata[key] for key in sorted({*metadata} - {_SEAL})}
    return xxhash.xxh3_64_hexdigest(json.dumps(others).encode())
