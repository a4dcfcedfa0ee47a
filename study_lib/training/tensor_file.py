"""Named tensors and text in one safetensors file: equal content gives equal bytes, and every flipped bit is found.

The files are plain safetensors. They are not written by its `save_file`, which writes through a hidden file of a
random name (left behind by a SIGKILL), shuffles the metadata, and refuses tensors that share memory.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
PLACE = len('{"__metadata__":{"sha256":"') + 8  # where the digest stands in the file
BLANK = "0" * 64


class DamagedFile(ValueError):
    """The file is not what was written: truncated, changed, or never one of ours."""


def write_tensor_file(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write and fsync; the digest over metadata, names, types, shapes and values goes into the metadata.

    Not atomic by itself: see `Checkpoints`. Any layout and device; the values are what is kept.
    """
    names = _order(tensors)
    header = _header(names, tensors, metadata)
    digest = _digest_of_words(metadata)
    with open(path, "wb") as file:
        file.write(header)
        for name in names:
            data = _bytes(tensors[name])
            _add(digest, name, tensors[name], data)
            file.write(data)
        file.seek(PLACE)
        file.write(digest.hexdigest().encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def read_tensor_file(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (CPU memory of their own, contiguous) and metadata; `DamagedFile` where the digest does not fit."""
    try:
        with safe_open(path, framework="pt", backend="pread") as file:
            metadata, tensors = dict(file.metadata() or {}), file.get_tensors()
    except SafetensorError as error:
        raise DamagedFile(f"{path}: expected a whole safetensors file; got {error}") from error
    expected = metadata.pop("sha256", None)
    if expected is None:
        raise DamagedFile(f"{path}: expected a digest in the metadata; got {sorted(metadata) or 'no metadata'}")
    digest = _digest_of_words(metadata)
    for name in _order(tensors):
        _add(digest, name, tensors[name], _bytes(tensors[name]))
    if digest.hexdigest() != expected:
        raise DamagedFile(
            f"{path}: expected content of SHA-256 {expected}; got {digest.hexdigest()}: bits have changed"
        )
    return tensors, metadata


def size_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Bytes that the file will have."""
    names = _order(tensors)
    return len(_header(names, tensors, metadata)) + sum(tensors[name].nbytes for name in names)


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Wide types first, as safetensors orders them, so that every tensor is aligned."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _header(names: list[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    reserved = {"sha256"} & set(metadata) or {"__metadata__"} & set(names)
    if reserved:
        raise ValueError(f"the name {reserved.pop()!r} is reserved by the file format: choose another")
    words = {"__metadata__": {"sha256": BLANK, **{key: metadata[key] for key in sorted(metadata)}}}
    begin, entries = 0, {}
    for name in names:
        code, end = _code(name, tensors[name]), begin + tensors[name].nbytes
        entries[name] = {"dtype": code, "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps({**words, **entries}, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _code(name: str, tensor: Tensor) -> str:
    if tensor.dtype not in CODES or tensor.layout != torch.strided:
        raise TypeError(
            f"tensor {name!r}: expected a dense one of {', '.join(CODES.values())}; got {tensor.dtype}, {tensor.layout}"
        )
    return CODES[tensor.dtype]


def _bytes(tensor: Tensor) -> np.ndarray:
    """The values in row order, as bytes; a copy only where layout or device ask for one."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _digest_of_words(metadata: Mapping[str, str]) -> Any:
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode("utf-8"))


def _add(digest: Any, name: str, tensor: Tensor, data: np.ndarray) -> None:
    digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode("utf-8"))
    digest.update(data)
