"""Checkpoints' files: what training resumes from, the run and step that it is of, and a checksum over both."""

import io
import json
import struct
import warnings

import torch
import xxhash

from tangentscope.pipeline.store.faults import Fault
from tangentscope.pipeline.store.files import Storage

_DIGEST_BYTES = 8  # of xxh3 with 64 bits
_MARK = b"TSC1"  # before the digest, where an identity stands; older versions wrote the digest alone
_TAIL = struct.Struct("<I4s")  # bytes of the identity, and the mark


def seal_checkpoint(state: bytes, run: str, step: int) -> bytes:
    """The bytes of a checkpoint's file; `state` as `torch.save` gives it, which ignores what stands behind it."""
    identity = json.dumps({"run": run, "step": step}).encode()
    data = state + identity + _TAIL.pack(len(identity), _MARK)
    return data + xxhash.xxh3_64_digest(data)


def state_in(data: bytes) -> bytes:
    """What `torch.load` takes of a checkpoint's file."""
    return _opened(data)[0]


def checkpoint_fault(storage: Storage, run: str, step: int, file: str) -> Fault | None:
    """Why a run cannot be resumed from a checkpoint at a step; None if it can. Raises FileNotFoundError."""
    data = storage.read(file)
    if xxhash.xxh3_64_digest(data[:-_DIGEST_BYTES]) != data[-_DIGEST_BYTES:]:
        return Fault(file, "damaged", "its content is not what was written")
    state, identity = _opened(data)
    if identity is not None and identity != (expected := {"run": run, "step": step}):
        return Fault(file, "foreign", f"it is of {identity}, expected {expected}")
    try:
        # Neither memory nor a device for what is only to be looked at.
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(io.BytesIO(state), map_location="meta", weights_only=True)
    except Exception:  # whatever torch says (it advises to load pickles unchecked): this is none of ours
        return Fault(file, "damaged", "it holds no weights")
    if not isinstance(content, dict) or content.get("step") != step:
        return Fault(file, "foreign", f"it holds no state of step {step}")
    return None


def _opened(data: bytes) -> tuple[bytes, dict[str, object] | None]:
    """State and identity in a file; no identity if an older version wrote it."""
    body = data[:-_DIGEST_BYTES]
    length, mark = _TAIL.unpack(body[-_TAIL.size :]) if len(body) >= _TAIL.size else (0, b"")
    if mark != _MARK:
        return body, None
    end = len(body) - _TAIL.size
    return body[: end - length], json.loads(body[end - length : end])
